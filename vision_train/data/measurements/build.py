"""Images with numbers, from a recipe to batches."""

from __future__ import annotations

from dataclasses import replace

import torch

from vision_train.data.cases import shared_cases
from vision_train.data.dataset import Batch
from vision_train.data.divide import cut_together
from vision_train.data.folds import with_fold
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.image_files import check_start, image_transform, loose, picture_sources
from vision_train.data.measurements import TABLE, Section
from vision_train.data.measurements.reading import ranges_in_words, read_measurements, refuse_alike
from vision_train.data.sample import ImageSample
from vision_train.data.splits import Splits, by_split, shares_to_cut, whole_split
from vision_train.files import printable
from vision_train.recipe.recipe import Recipe

__all__ = ["all_samples", "build", "check_start", "image_transform", "loose", "picture_sources"]


class MeasurementDataModule(ImageDataModule):
    """Images whose truths are numbers; its classes are the names of these."""

    listed = "numbers"

    def described(self) -> str:
        """How many images there are, and what was measured."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        return f"{counts} images with {', '.join(map(printable, self.classes))}"

    def class_lines(self) -> list[str]:
        """What range the numbers to learn from have."""
        return ranges_in_words(self.samples("train"), self.classes)

    def class_doubts(self) -> list[str]:
        """None: columns are no classes."""
        return []


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> MeasurementDataModule:
    """Read and check the images that a recipe names; as :meth:`vision_train.data.kind.Implementation.build`.

    Args:
        recipe: Its ``data``, ``augment`` and ``seed`` matter here.
        classes: Names of the numbers of an earlier run.
        only: As there.
    """
    section: Section = recipe.data
    samples, names, notes = read_measurements(section, classes)
    splits = whole_split(samples, only) if only else _divide(samples, section, recipe.seed)
    if not only:
        refuse_alike(splits["train"], names, section.named())
    module = MeasurementDataModule(section, recipe.augment, recipe.seed, splits, names, collate_numbers)
    module.notes += [*notes, *([] if only else shared_cases(splits, MeasurementDataModule.noun))]
    return module


def all_samples(recipe: Recipe) -> list[ImageSample]:
    """Every image that a recipe names."""
    return read_measurements(recipe.data, None)[0]


def collate_numbers(truths: list[tuple[float, ...]]) -> Batch:
    """Numbers of B images -> ``target`` (B D, float32)."""
    return {"target": torch.tensor(truths, dtype=torch.float32)}


def _divide(samples: list[ImageSample], section: Section, seed: int) -> Splits:
    if section.fold is not None and section.source != TABLE:  # the usual split of drawn discs is no promise
        samples = [replace(sample, split=None) for sample in samples]
    splits = by_split(with_fold(samples, section, seed))
    wanted = shares_to_cut(splits, section.splits)
    return splits | cut_together(splits["train"], wanted, section) if wanted else splits
