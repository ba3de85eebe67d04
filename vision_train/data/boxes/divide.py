"""Cutting splits from images with boxes, and drawing few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vision_train.data.boxes import Section
from vision_train.data.boxes.annotations import BoxSample
from vision_train.data.splits import Splits, by_split, cut_shares, shares_to_cut
from vision_train.errors import UserError
from vision_train.files import first_named
from vision_train.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Together:
    """Images that stay in one split."""

    id: str
    members: tuple[BoxSample, ...]
    truth: None = None
    split: None = None


def divide_images(samples: Sequence[BoxSample], section: Section) -> tuple[Splits, list[str]]:
    """Sort images into train, val and test, and say what was cut.

    A split that annotations name is taken as it is. Others are cut from the training images by their ids alone; those
    of one group stay together. Where a val is named and no test, nothing is cut for a test, which is val again.

    Raises:
        UserError: There are too few images.
    """
    splits = by_split(samples)
    if not splits["train"]:
        raise UserError(f"{section.named()}: no image to train on; all of them are val or test")
    wanted = shares_to_cut(splits, section.splits)
    notes = []
    again = "test" in wanted and splits["val"] and "test" not in (section.splits or {})
    if again:
        del wanted["test"]
    if wanted:
        splits |= _cut(splits["train"], wanted, section)
        notes.append(f"{' and '.join(wanted)} cut from the training images")
    if again:
        splits["test"] = splits["val"]
        notes.append("the annotations name no test split: test is val again; data.splits={test: 0.1} cuts one")
    return splits, notes


def _cut(train: Sequence[BoxSample], wanted: Mapping[str, float], section: Section) -> Splits:
    groups: dict[str, list[BoxSample]] = {}
    for sample in train:
        groups.setdefault(sample.group or sample.id, []).append(sample)
    units = [Together(name, tuple(members)) for name, members in groups.items()]
    if len(units) <= len(wanted):
        raise UserError(
            f"{section.named()}: {len(units)} image(s) or groups of them are too few to cut {' and '.join(wanted)} "
            "from; add some, or name files for each split with data.labels={train: FILE, val: FILE}"
        )
    cut = cut_shares(units, wanted)
    return {name: [sample for unit in members for sample in unit.members] for name, members in cut.items()}


def few(train: Sequence[BoxSample], section: Section, classes: Sequence[str], seed: int) -> list[BoxSample]:
    """The training images that ``share``, ``labels_per_class`` and ``background`` leave.

    More images with the same seed contain fewer.

    Raises:
        UserError: Classes are on fewer images than asked for, or nothing is left.
    """
    left = list(train)
    if section.share < 1:
        count = max(1, round(section.share * len(left)))
        left = [left[place] for place in sorted(_order(len(left), seed, "share of images")[:count])]
    if section.labels_per_class is not None:
        left = _so_many_of_each(left, section.labels_per_class, classes, seed)
    if section.background == "drop":
        left = [sample for sample in left if sample.truth.boxes]
    if not any(sample.truth.boxes for sample in left):
        raise UserError(
            f"{section.named()}: no training image has a box to learn from; raise data.share, or mend the annotations"
        )
    return left


def _so_many_of_each(train: list[BoxSample], count: int, classes: Sequence[str], seed: int) -> list[BoxSample]:
    """The first images in a drawn order of all, so many that show each class."""
    order = _order(len(train), seed, "images of classes")
    holding: dict[str, list[int]] = {name: [] for name in classes}
    for place in order:
        for label in sorted(set(train[place].truth.labels)):
            holding[label].append(place)
    # A class that is on no image at all is told elsewhere; it cannot be drawn.
    scarce = [f"{name} ({len(places)})" for name, places in holding.items() if 0 < len(places) < count]
    if scarce:
        raise UserError(
            f"data.labels_per_class is {count}, but fewer training images show these classes: {first_named(scarce)}. "
            "Lower it, or set it to null to take all images"
        )
    return [train[place] for place in sorted({place for places in holding.values() for place in places[:count]})]


def _order(length: int, seed: int, purpose: str) -> list[int]:
    return np.random.default_rng(derive_seed(seed, purpose)).permutation(length).tolist()
