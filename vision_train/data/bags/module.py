"""Bags with a label each, from a recipe to batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vision_train.data.bags.cases import divide_bags, shared_cases
from vision_train.data.bags.dataset import BagDataset
from vision_train.data.bags.index import index_bags
from vision_train.data.bags.samples import (
    BagSample,
    FeatureKind,
    JoinedBags,
    check_feature_kind,
    class_order,
    feature_kind,
    join_bags,
    map_labels,
)
from vision_train.data.bags.tables import read_labels, read_splits
from vision_train.data.dataset import OnBad
from vision_train.data.module import SampleDataModule
from vision_train.data.splits import draw_labels_per_class, label_map, whole_split
from vision_train.errors import UserError
from vision_train.recipe.data_section import Data

BagSplits = dict[str, list[BagSample]]


class BagDataModule(SampleDataModule):
    """Bags of one recipe, split by split, as batches.

    Args:
        data: Batch size, workers, policy for bad bags, and what the features are.
        seed: Of the run.
        splits: The bags, by split.
        classes: The label map.
        unusable: Bags that were asked for and are in no split, with the reasons.
    """

    noun = "bags"

    def __init__(
        self, data: Data, seed: int, splits: BagSplits, classes: list[str], unusable: Mapping[str, str]
    ) -> None:
        super().__init__(data, seed, splits, classes)
        self._unusable = unusable

    def make_dataset(self, samples: Sequence[Any], *, training: bool, alone: bool) -> BagDataset:
        """Bags as they are; those of training without the coordinates, which only pictures need."""
        return BagDataset(list(samples), self.classes, self.on_bad if alone else "skip", coords=not training)

    @property
    def on_bad(self) -> OnBad:
        """The recipe's policy for bags that cannot be used."""
        return self.data.on_bad_bag

    @property
    def skipped(self) -> dict[str, str]:
        """Bags that were skipped so far, with the reasons: before anything was read, and in this process."""
        return {**self._unusable, **super().skipped}

    def described(self) -> str:
        """How many bags there are, and what their features are, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        encoder = f" of {self.data.encoder}" if self.data.encoder else ""
        return f"{counts} bags of {len(self.classes)} classes, {self.data.feature_width} features{encoder} an instance"


def labelled_bags(data: Data, seed: int, classes: list[str] | None = None, only: str | None = None) -> BagDataModule:
    """Bags with a label each, as a recipe names them.

    Args:
        data: What to read.
        seed: Of the run, and of the bags of ``digit_bags``.
        classes: Label map of an earlier run, to evaluate or predict with; None takes the names found.
        only: Evaluate this one split of other data than the run's own: nothing is cut from it or drawn.

    Raises:
        UserError: The data cannot be used as it is; one message names what is wrong.
    """
    joined = read_bag_samples(data, seed)
    samples, notes = joined.samples, joined.notes()
    splits = whole_split(samples, only) if only else divide_bags(samples, data.shares)
    if not only and not splits["train"]:
        raise UserError(f"{data.root}: no bag to learn from; all of them are val or test")
    label_names = label_map(splits if classes else {"train": splits["train"]}, classes, class_order)
    label_map(splits, label_names)
    if data.labels_per_class is not None and not only:
        splits["train"] = draw_labels_per_class(splits["train"], data.labels_per_class, seed)
    if not only:
        notes += _absent_classes(splits, label_names) + shared_cases(splits)
    found = feature_kind(samples)
    check_feature_kind(found, FeatureKind(data.feature_width, data.encoder))
    resolved = replace(data, feature_width=found.width, encoder=data.encoder or found.encoder)
    module = BagDataModule(resolved, seed, splits, label_names, joined.skipped)
    module.notes += notes
    return module


def read_bag_samples(data: Data, seed: int) -> JoinedBags:
    """All labelled bags that a recipe names, in a fixed order, and what is left out.

    Args:
        data: What to read.
        seed: Of the bags of ``digit_bags``.

    Raises:
        UserError: The bags cannot be used as they are.
    """
    if data.source == "digit_bags":
        from vision_train.data.bags.digits import digit_bag_samples

        joined = JoinedBags(digit_bag_samples(data.variant or "rare", seed))
    else:
        assert data.root is not None
        labels = None if data.labels is None else read_labels(Path(data.labels))
        splits = read_splits(Path(data.splits)) if isinstance(data.splits, str) else None
        joined = join_bags(index_bags(Path(data.root)), labels, splits, data.on_bad_bag)
    return joined if data.label_map is None else replace(joined, samples=map_labels(joined.samples, data.label_map))


def _absent_classes(splits: BagSplits, classes: list[str]) -> list[str]:
    notes = []
    for name, samples in splits.items():
        absent = [label for label in classes if not any(sample.label == label for sample in samples)]
        if not absent:
            continue
        auroc = "its AUROC is over the others"
        if len(classes) - len(absent) < 2:
            instead = ", and where run.select needs it, the lower loss chooses the epoch" if name == "val" else ""
            auroc = f"AUROC cannot be measured there{instead}"
        notes.append(f"the {name} split has no bag of class {', '.join(absent)}; {auroc}")
    return notes
