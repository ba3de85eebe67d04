"""Which outputs of published class heads a detector keeps: those of the classes of its data, found by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.adapted import Adapted
from vision_train.checkpoints.head import places_of
from vision_train.tasks.detection.coco import OUTPUTS, output_names
from vision_train.wording import first_named


@dataclass(frozen=True)
class Wanted:
    """The classes of the data."""

    classes: Sequence[str]
    category_ids: Sequence[int]
    """Number of each in the annotations; empty where nobody says it."""


def choose_outputs(weights: Adapted, said: Sequence[str] | None, wanted: Wanted, heads: Sequence[str]) -> Adapted:
    """Keep the outputs of class heads that know the classes of the data, if they know all of them.

    A head of 91 outputs of which nothing says what they are has COCO's category ids as outputs, as published detectors
    do. An output is never kept for its number alone: the name of the class has to be that of the data.

    Args:
        weights: Of the network, by its names.
        said: The classes that the file, or what lies beside it, says its heads know.
        wanted: The classes of the data.
        heads: Names of the modules that have an output, or an embedding, for each class.
    """
    inside = [name for name in weights if name.startswith(tuple(f"{head}." for head in heads))]
    counts = {weights[name].shape[0] for name in inside if weights[name].ndim}
    if len(counts) != 1:
        return weights
    (count,) = counts
    is_coco = weights.classes is None and said is None and count == OUTPUTS
    theirs = output_names() if is_coco else _known(weights, said, count)
    if theirs is None or (not is_coco and count == len(wanted.classes)):
        return weights  # as many classes, or nobody knows which: as heads of any other task
    rows = places_of(wanted.classes, theirs)
    whose = "COCO's category ids, as nothing says otherwise of 91 outputs" if is_coco else f"{count} classes"
    if rows is None:
        return _without(weights, inside, _unknown(wanted.classes, theirs, whose, is_coco=is_coco))
    note = f"class heads keep {len(rows)} of {count} outputs: those of the same names ({whose})"
    if is_coco and wanted.category_ids and list(wanted.category_ids) != rows:
        note += "; the annotations number them otherwise, and names decide"
    kept = torch.tensor(rows)
    fitted = {name: tensor[kept] if name in inside else tensor for name, tensor in weights.items()}
    return _with(weights, fitted, note, wanted.classes)


def _known(weights: Adapted, said: Sequence[str] | None, count: int) -> Sequence[str] | None:
    """The class of each output, where the file says it."""
    if weights.classes is None:
        return said if said is not None and len(said) == count else None
    # The official code spells the names up to the largest category id; there may be outputs beyond.
    beyond = [f"no category {number}" for number in range(len(weights.classes), count)]
    return [*weights.classes, *beyond] if len(weights.classes) <= count else None


def _unknown(ours: Sequence[str], theirs: Sequence[str], whose: str, *, is_coco: bool) -> str:
    strange = [name for name in ours if places_of([name], theirs) is None]
    reason = f"the file does not know {first_named(strange)}" if strange else "several classes share a name"
    numbers = "; that numbers agree means nothing" if is_coco else ""
    return f"class heads start anew: {reason} ({whose}){numbers}"


def _without(weights: Adapted, names: Sequence[str], note: str) -> Adapted:
    return _with(weights, {name: each for name, each in weights.items() if name not in names}, note, None)


def _with(weights: Adapted, fitted: dict[str, Tensor], note: str, classes: Sequence[str] | None) -> Adapted:
    return Adapted(fitted, weights.named, fresh=weights.fresh, notes=[*weights.notes, note], classes=classes)
