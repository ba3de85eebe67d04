"""Cutting splits from samples of which some stay together, and drawing few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from vision_train.data.sample import ImageSample, Sample
from vision_train.data.splits import Splits, by_split, cut_shares, shares_to_cut
from vision_train.errors import UserError
from vision_train.seeds import derive_seed

S = TypeVar("S", bound=Sample)


class DividedSection(Protocol):
    """A section of a recipe that says which splits are cut."""

    @property
    def splits(self) -> dict[str, float] | None:
        """Shares of `val` and `test` that are cut from the training images."""

    def named(self) -> str:
        """The key that names the samples, with its value."""


@dataclass(frozen=True, slots=True)
class Together:
    """Images that stay in one split."""

    id: str
    members: tuple[ImageSample, ...]
    truth: None = None
    split: None = None


def divide_images(samples: Sequence[ImageSample], section: DividedSection) -> tuple[Splits, list[str]]:
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
        splits |= cut_together(splits["train"], wanted, section)
        notes.append(f"{' and '.join(wanted)} cut from the training images")
    if again:
        splits["test"] = splits["val"]
        notes.append("the annotations name no test split: test is val again; data.splits={test: 0.1} cuts one")
    return splits, notes


def cut_together(train: Sequence[ImageSample], wanted: Mapping[str, float], section: DividedSection) -> Splits:
    """Cut splits from training images by their ids alone; those of one group stay together.

    Args:
        train: The images.
        wanted: Share of each split to cut.
        section: The recipe's ``data``.

    Raises:
        UserError: There are too few images.
    """
    units = [Together(name, tuple(members)) for name, members in grouped(train).items()]
    if len(units) <= len(wanted):
        raise UserError(
            f"{section.named()}: {len(units)} image(s) or groups of them are too few to cut {' and '.join(wanted)} "
            "from; add some, or name those of each split"
        )
    cut = cut_shares(units, wanted)
    return {name: [sample for unit in members for sample in unit.members] for name, members in cut.items()}


def grouped(samples: Sequence[S]) -> dict[str, list[S]]:
    """Samples by their group; one without is a group of its own."""
    groups: dict[str, list[S]] = {}
    for sample in samples:
        groups.setdefault(sample.group or sample.id, []).append(sample)
    return groups


def drawn_order(length: int, seed: int, purpose: str) -> list[int]:
    """The places of samples in an order that is drawn; so many first ones of it contain fewer first ones."""
    return np.random.default_rng(derive_seed(seed, purpose)).permutation(length).tolist()
