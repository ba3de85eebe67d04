"""Folds of samples that bear several labels each, with about the same share of every class in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPEN = -1
"""Stands for the fold of a group that is in none yet."""


def stratified_folds(
    present: NDArray[np.bool_], groups: NDArray[np.int64], count: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Iterative stratification (Sechidis and others, ECML PKDD 2011, algorithm 1), of whole groups.

    Classes are taken one by one, each time the one that the fewest groups bear which are not in a fold yet. Each of
    these groups goes into the fold that lacks most of that class; of several, into the one that lacks most samples; of
    several again, into a random one.

    Args:
        present: N K, which classes each sample bears.
        groups: N, numbers from 0 on; those of one number stay together.
        count: Number of folds.
        random: Draws the order of groups, and folds where nothing else decides.

    Returns:
        N, the fold of each sample, from 0 on.
    """
    sizes = np.bincount(groups)
    borne = np.zeros((len(sizes), present.shape[1]), dtype=np.int64)
    np.add.at(borne, groups, present)
    lacking = np.tile(borne.sum(axis=0) / count, (count, 1))
    room = np.full(count, sizes.sum() / count)
    fold_of = np.full(len(sizes), OPEN)
    while (is_open := fold_of == OPEN).any():
        bearing = (borne[is_open] > 0).sum(axis=0)
        # Groups that bear no class come last.
        rarest = int(np.where(bearing > 0, bearing, len(sizes) + 1).argmin()) if bearing.any() else None
        members = np.flatnonzero(is_open if rarest is None else is_open & (borne[:, rarest] > 0))
        for group in random.permutation(members):
            wanted = np.zeros(count) if rarest is None else lacking[:, rarest]
            fold = np.lexsort((random.random(count), -room, -wanted))[0]
            fold_of[group] = fold
            lacking[fold] -= borne[group]
            room[fold] -= sizes[group]
    return fold_of[groups]
