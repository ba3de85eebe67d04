"""Bags, from a recipe to batches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vision_train.checkpoints import Weights
from vision_train.data.bags import BUNDLED, Section
from vision_train.data.bags.dataset import BagDataset
from vision_train.data.bags.index import index_bags
from vision_train.data.bags.join import JoinedBags, join_bags
from vision_train.data.bags.samples import (
    BagSample,
    FeatureKind,
    check_feature_kind,
    feature_kind,
    map_labels,
)
from vision_train.data.bags.sources import sources_of_pictures
from vision_train.data.bags.tables import read_labels, read_splits
from vision_train.data.cases import divide_by_cases, shared_cases
from vision_train.data.classes import draw_labels_per_class, label_map
from vision_train.data.dataset import SampleLoader, sample_loader
from vision_train.data.folds import with_fold
from vision_train.data.labels import in_declared_order
from vision_train.data.module import SampleDataModule
from vision_train.data.sampler import EvaluationSampler
from vision_train.data.splits import whole_split
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe

BagSplits = dict[str, list[BagSample]]


class BagDataModule(SampleDataModule):
    """Bags of one recipe, split by split, as batches.

    Args:
        section: Batch size, workers, policy for bad bags, and what the features are.
        seed: Seed of the run.
        splits: The bags, by split.
        classes: The label map.
        unusable: Bags that were asked for and are in no split, with the reasons.
    """

    noun = "bags"
    section: Section

    def __init__(
        self, section: Section, seed: int, splits: BagSplits, classes: list[str], unusable: Mapping[str, str]
    ) -> None:
        super().__init__(section, seed, splits, classes)
        self._unusable = unusable

    def make_dataset(self, samples: Sequence[Any], *, stream: str | None, alone: bool) -> BagDataset:
        """Bags as they are; those of training without the coordinates, which only pictures need."""
        on_bad = self.section.on_bad if alone else "skip"
        return BagDataset(list(samples), self.classes, on_bad, coords=stream is None)

    @property
    def skipped(self) -> dict[str, str]:
        """Bags that were skipped so far, with the reasons: before anything was read, and in this process."""
        return {**self._unusable, **super().skipped}

    def described(self) -> str:
        """How many bags there are, and what their features are, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        encoder = f" of {self.section.encoder}" if self.section.encoder else ""
        width = self.section.feature_width
        return f"{counts} bags of {len(self.classes)} classes, {width} features{encoder} an instance"


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> BagDataModule:
    """Read and check the bags that a recipe names; as :meth:`vision_train.data.kind.Implementation.build`.

    The seed draws the bags of ``digit_bags`` too. What the features are is found in the files and filled into the
    section.
    """
    section = recipe.data
    joined = read_bag_samples(section, recipe.seed, declared=classes or ())
    samples, notes = joined.samples, joined.notes()
    if only:
        splits = whole_split(samples, only)
    else:
        splits = divide_by_cases(with_fold(samples, section, recipe.seed), section.shares)
    if not only and not splits["train"]:
        raise UserError(f"{section.root}: no bag to learn from; all of them are val or test")
    names = label_map(splits if classes else {"train": splits["train"]}, classes)
    names = names if classes else in_declared_order(names, section.classes)
    label_map(splits, names)
    drawn_from = {}
    if section.labels_per_class is not None and not only:
        drawn_from["train"] = splits["train"]
        splits["train"] = draw_labels_per_class(splits["train"], section.labels_per_class, recipe.seed)
    if not only:
        notes += _absent_classes(splits, names) + shared_cases(splits, BagDataModule.noun)
    found = feature_kind(samples)
    check_feature_kind(found, FeatureKind(section.feature_width, section.encoder))
    resolved = replace(section, feature_width=found.width, encoder=section.encoder or found.encoder)
    module = BagDataModule(resolved, recipe.seed, splits, names, joined.skipped)
    module.drawn_from |= drawn_from
    module.notes += notes
    return module


def all_samples(recipe: Recipe) -> list[BagSample]:
    """Every bag that a recipe names, whatever the seed draws of them."""
    return read_bag_samples(recipe.data, recipe.seed).samples


def loose(recipe: Recipe, inputs: Sequence[Path], *, learner: str) -> SampleLoader:
    """Load bags one at a time, without labels, in this process: no two of them need to fit into memory together.

    ``loader.dataset.skipped`` has the bags that could not be used so far, with the reasons.
    """
    section = recipe.data
    joined = join_bags(index_bags(*inputs), on_bad=section.on_bad, labelled=False)
    check_feature_kind(feature_kind(joined.samples), FeatureKind(section.feature_width, section.encoder), learner)
    unlabelled = [replace(sample, truth=None) for sample in joined.samples]
    dataset = BagDataset(unlabelled, [], section.on_bad)
    dataset.skipped.update(joined.skipped)
    dataset.notes += joined.remarks
    return sample_loader(dataset, EvaluationSampler(len(dataset)), batch_size=1, workers=0)


def picture_sources(
    samples: Sequence[BagSample], section: Section, images: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """The sizes of slides, and the images that bags were made of."""
    return sources_of_pictures(samples, images, section.on_bad)


def check_start(recipe: Recipe, weights: Weights, name: str, data: SampleDataModule) -> list[str]:
    """Refuse weights that learned from features of another encoder or width.

    Raises:
        UserError: They did.
    """
    earlier = (weights.recipe or {}).get("data", {})
    learned = FeatureKind(earlier.get("feature_width"), earlier.get("encoder"))
    check_feature_kind(FeatureKind(recipe.data.feature_width, recipe.data.encoder), learned, name)
    return []


def read_bag_samples(section: Section, seed: int, *, declared: Collection[str] = ()) -> JoinedBags:
    """All labelled bags that a recipe names, in a fixed order, and what is left out.

    Args:
        section: The bags to read.
        seed: Seed of the bags of ``digit_bags``.
        declared: Labels that name a class, whatever they look like, besides those of the section.

    Raises:
        UserError: The bags cannot be used as they are.
    """
    if section.source == BUNDLED:
        from vision_train.data.bags.digits import digit_bag_samples

        joined = JoinedBags(digit_bag_samples(section.variant or "rare", seed))
    else:
        assert section.root is not None
        labels = None if section.labels is None else read_labels(Path(section.labels))
        splits = read_splits(Path(section.splits)) if isinstance(section.splits, str) else None
        declared = {*declared, *(section.classes or ()), *(section.label_map or ())}
        joined = join_bags(index_bags(Path(section.root)), labels, splits, section.on_bad, declared=declared)
    if section.label_map is None:
        return joined
    return replace(joined, samples=map_labels(joined.samples, section.label_map))


def _absent_classes(splits: BagSplits, classes: list[str]) -> list[str]:
    notes = []
    for name, samples in splits.items():
        absent = [label for label in classes if not any(sample.truth == label for sample in samples)]
        if not absent:
            continue
        auroc = "its AUROC is over the others"
        if len(classes) - len(absent) < 2:
            instead = ", and where run.select needs it, the lower loss chooses the epoch" if name == "val" else ""
            auroc = f"AUROC cannot be measured there{instead}"
        notes.append(f"the {name} split has no bag of class {', '.join(absent)}; {auroc}")
    return notes
