"""Putting samples of one group side by side, so that those of a batch are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def arranged_by_group(
    order: NDArray[np.int64], groups: NDArray[np.int64], step_size: int, start: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Rearrange a shuffled pass so that nearly all of its steps draw from one group.

    Each group gives as many whole steps as it fills. What remains of all groups is a few samples each, of which random
    ones complete the last step of the pass before and begin the first one of the next; the others follow one another
    group by group, so that a step of several groups holds neighbours.

    Args:
        order: Places of samples in a random order (n).
        groups: Group of each place.
        step_size: Samples of a step.
        start: Samples at the beginning of the pass that complete the last step of the pass before.
        random: Draws the order of the steps.

    Returns:
        The same places (n).
    """
    steps, rest = _whole_steps(order, groups, step_size)
    count = (len(order) - start) // step_size
    random.shuffle(steps)
    rest = random.permutation(np.concatenate([rest, *steps[count:]]))
    steps = steps[:count]
    mixed = (count - len(steps)) * step_size
    middle = rest[start : start + mixed]
    middle = middle[np.argsort(groups[middle], kind="stable")]
    steps += [middle[place : place + step_size] for place in range(0, mixed, step_size)]
    random.shuffle(steps)
    return np.concatenate([rest[:start], *steps, rest[start + mixed :]])


def _whole_steps(
    order: NDArray[np.int64], groups: NDArray[np.int64], step_size: int
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """Steps that one group fills, and what is left."""
    steps: list[NDArray[np.int64]] = []
    rest: list[NDArray[np.int64]] = []
    for group in np.unique(groups[order]):
        members = order[groups[order] == group]
        whole = len(members) // step_size * step_size
        steps += np.split(members[:whole], range(step_size, whole, step_size)) if whole else []
        rest.append(members[whole:])
    return steps, np.concatenate(rest)


def as_array(groups: Sequence[int] | None) -> NDArray[np.int64] | None:
    """Groups as an array; None where all samples are of one."""
    return None if groups is None or len(set(groups)) < 2 else np.asarray(groups, dtype=np.int64)
