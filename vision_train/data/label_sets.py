"""Samples that bear any number of classes at once: their truths, label maps, splits, subsets and batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from vision_train.data.classes import class_order
from vision_train.data.divide import grouped
from vision_train.data.sample import Divisible, Sample
from vision_train.data.splits import Splits, by_split, cut_shares, shares_to_cut
from vision_train.errors import UserError
from vision_train.seeds import derive_seed
from vision_train.wording import first_named

S = TypeVar("S", bound=Sample)


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The classes of one sample. A class that is in neither list is known to be absent."""

    present: tuple[str, ...]
    """Names, in the order of the text."""
    unknown: tuple[str, ...] = ()
    """Classes of which nobody says whether they are there; they are neither learnt nor measured."""


def label_set_map(splits: Mapping[str, Sequence[S]], fixed: Sequence[str] | None = None) -> list[str]:
    """Names of the classes in order; or ``fixed``, once every label is known to be in it.

    Args:
        splits: Samples whose truths are sets of labels.
        fixed: Label map of an earlier run.

    Raises:
        UserError: No class at all; one that no training sample bears, or all of them do; a label outside ``fixed``.
    """
    everywhere = list(chain.from_iterable(splits.values()))
    if fixed is not None:
        for sample in everywhere:
            if outside := [name for name in _named(sample) if name not in fixed]:
                raise UserError(f"{sample.id}: {first_named(outside)} is not one of the run's classes: {[*fixed]}")
        return list(fixed)
    classes = class_order({name for sample in everywhere for name in _named(sample)})
    if not classes:
        raise UserError("no image has a label; set data.labels to a table that names classes")
    train = splits["train"]
    learnt = Counter(name for sample in train for name in sample.truth.present)
    known = {name: len(train) for name in classes}
    known |= {name: len(train) - n for name, n in Counter(chain(*(each.truth.unknown for each in train))).items()}
    if absent := [name for name in classes if not learnt[name]]:
        held = " and ".join(split for split, members in splits.items() if _bears(members, absent[0]))
        where = f" ({absent[0]} is in {held} alone)" if held else ""
        raise UserError(
            f"no training image bears {first_named(absent)}{where}, so it cannot be learnt; add such images to train, "
            "or leave the class out"
        )
    if always := [name for name in classes if learnt[name] == known[name]]:
        raise UserError(
            f"every training image bears {first_named(always)}, so nothing tells it from its absence; add images "
            "without it, or leave the class out"
        )
    return classes


def _named(sample: Divisible) -> tuple[str, ...]:
    return (*sample.truth.present, *sample.truth.unknown)


def _bears(members: Sequence[Divisible], name: str) -> bool:
    return any(name in sample.truth.present for sample in members)


def without_positives(splits: Mapping[str, Sequence[S]], classes: Sequence[str]) -> list[str]:
    """Say which classes nothing in a split bears that is measured, so that they do not count in its figures."""
    notes = []
    for split, members in splits.items():
        if split != "train" and members and (lacking := [name for name in classes if not _bears(members, name)]):
            notes.append(
                f"no image of {split} bears {first_named(lacking)}; "
                f"{'this class counts' if len(lacking) == 1 else 'these classes count'} in no mean over the classes "
                "there"
            )
    return notes


def divide_label_sets(samples: list[S], shares: Mapping[str, float] | None) -> Splits:
    """Sort samples into train, val and test, with about the same share of every class in each that is cut.

    As :func:`vision_train.data.classes.divide`, but a sample is cut with the rarest class that it bears, so that rare
    classes are divided first (the order of iterative stratification: Sechidis and others, ECML PKDD 2011). Which
    samples go where depends on their ids and labels alone. Those of one group stay together, with the labels of all of
    them. Too few groups to leave one in each split stay in train.

    Args:
        samples: From one source; those without a split count as training samples.
        shares: Shares of val and test.
    """
    splits = by_split(samples)
    wanted = shares_to_cut(splits, shares)
    if not wanted:
        return splits
    if len(splits["train"]) <= len(wanted):
        raise UserError(
            f"{len(splits['train'])} training image(s) are too few to cut {' and '.join(wanted)} from; add images"
        )
    held: dict[str, list[_Unit]] = {name: [] for name in (*wanted, "train")}
    for members in _by_rarest(_units(splits["train"])).values():
        cut = cut_shares(members, wanted) if len(members) > len(wanted) else {"train": members}
        for name, units in cut.items():
            held[name] += units
    if empty := [name for name in wanted if not held[name]]:
        raise UserError(
            f"the labels of {len(samples)} images are too different to cut {empty[0]} from; name the split of each "
            "image in a column `split`"
        )
    return splits | {name: [sample for unit in units for sample in unit.members] for name, units in held.items()}


@dataclass(frozen=True, slots=True)
class _Unit:
    """Samples that stay in one split, and the classes that any of them bears."""

    id: str
    present: frozenset[str]
    members: tuple[Any, ...]
    truth: None = None
    split: None = None


def _units(samples: Sequence[Sample]) -> list[_Unit]:
    return [
        _Unit(name, frozenset(chain.from_iterable(sample.truth.present for sample in members)), tuple(members))
        for name, members in grouped(samples).items()
    ]


def _by_rarest(units: Sequence[_Unit]) -> dict[str, list[_Unit]]:
    """Units by the rarest class that each bears; those that bear none under an empty name."""
    counts = Counter(name for unit in units for name in unit.present)
    groups: dict[str, list[_Unit]] = {}
    for unit in units:
        rarest = min(unit.present, key=lambda name: (counts[name], name), default="")
        groups.setdefault(rarest, []).append(unit)
    return {name: groups[name] for name in sorted(groups)}


def draw_positives_per_class(train: list[S], count: int, seed: int) -> list[S]:
    """Draw ``count`` training samples that bear each class, and as many that bear none, where there are any.

    A sample counts for all of its classes, so that a class may end with more than ``count``. A larger ``count`` with
    the same seed contains a smaller one.

    Args:
        train: In a fixed order, which is kept.
        count: At least 1.
        seed: Of the run.

    Raises:
        UserError: A class has fewer.
    """
    members: dict[str, list[int]] = {}
    for place, sample in enumerate(train):
        for name in sample.truth.present or ("",):
            members.setdefault(name, []).append(place)
    if small := [f"{name} ({len(places)})" for name, places in members.items() if name and len(places) < count]:
        fewest = min(len(places) for name, places in members.items() if name)
        raise UserError(
            f"data.labels_per_class is {count}, but fewer training images bear {first_named(small)}. Set it to "
            f"{fewest} or less, or to null to take all"
        )
    drawn: set[int] = set()
    for name, places in members.items():
        generator = np.random.default_rng(derive_seed(seed, f"labels of {name}"))
        drawn |= {places[index] for index in generator.permutation(len(places))[:count]}
    return [train[place] for place in sorted(drawn)]
