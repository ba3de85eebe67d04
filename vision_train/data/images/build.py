"""Labelled images, from a recipe to batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision_train.checkpoints import Weights
from vision_train.data.classes import divide, draw_labels_per_class, label_map
from vision_train.data.dataset import ClassLabels, SampleLoader
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.image_files import loose_images, originals_of
from vision_train.data.images import Section
from vision_train.data.sample import ImageSample
from vision_train.data.sources import read_samples
from vision_train.data.splits import whole_split
from vision_train.recipe.recipe import Recipe


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> ImageDataModule:
    """Read and check the images that a recipe names; as :meth:`vision_train.data.kind.Implementation.build`."""
    section = recipe.data
    samples = read_samples(section, divided=only is None)
    splits = whole_split(samples, only) if only else divide(samples, section.splits)
    names = label_map(splits, classes)
    if section.labels_per_class is not None and not only:
        splits["train"] = draw_labels_per_class(splits["train"], section.labels_per_class, recipe.seed)
    return ImageDataModule(section, recipe.augment, recipe.seed, splits, names, ClassLabels(names))


def all_samples(recipe: Recipe) -> list[ImageSample]:
    """Every image that a recipe names, whatever the seed draws of them."""
    return read_samples(recipe.data)


def loose(recipe: Recipe, inputs: Sequence[Path], *, learner: str) -> SampleLoader:
    """Load image files, folders and tables without labels, to predict on."""
    return loose_images(recipe.data, recipe.augment, inputs)


def picture_sources(
    samples: Sequence[ImageSample], section: Section, images: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """The images themselves."""
    return originals_of(samples, images), []


def check_start(recipe: Recipe, weights: Weights, name: str) -> None:
    """Images of any kind may be learned from any start."""
