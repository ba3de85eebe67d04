"""Labelled images, from a recipe to batches."""

from __future__ import annotations

from dataclasses import replace

from vision_train.data.cases import divide_by_cases, shared_cases
from vision_train.data.classes import divide, draw_labels_per_class, label_map
from vision_train.data.dataset import ClassLabels
from vision_train.data.folds import with_fold
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.image_files import check_start, image_transform, loose, picture_sources
from vision_train.data.image_section import FILES, STORED
from vision_train.data.images import Section
from vision_train.data.images.multi_label import build_label_sets
from vision_train.data.images.reading import read_multi_label
from vision_train.data.labels import in_declared_order
from vision_train.data.sample import ImageSample
from vision_train.data.sources import read_samples
from vision_train.data.splits import Splits, whole_split
from vision_train.data.unlabelled import streams_of, unlabelled_splits
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe

__all__ = ["all_samples", "build", "check_start", "image_transform", "loose", "picture_sources"]


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> ImageDataModule:
    """Read and check the images that a recipe names; as :meth:`vision_train.data.kind.Implementation.build`."""
    section = recipe.data
    if section.multi_label:
        return build_label_sets(recipe, classes, only)
    found = read_samples(section, divided=only is None, declared=classes or ())
    splits = whole_split(found.samples, only) if only else _divide(found.samples, section, recipe.seed)
    try:
        names = classes or in_declared_order(label_map(splits), section.classes)
        label_map(splits, names)
    except UserError as error:  # a class that is missing may be one of the folders that were left out
        raise UserError("; ".join([str(error), *found.notes])) from error
    all_of_train = splits["train"]
    if section.labels_per_class is not None and not only:
        splits["train"] = draw_labels_per_class(splits["train"], section.labels_per_class, recipe.seed)
    beside, notes = ({}, []) if only else unlabelled_splits(section, splits["train"], all_of_train, names)
    module = ImageDataModule(
        section, recipe.augment, recipe.seed, splits | beside, names, ClassLabels(names), **streams_of(recipe, beside)
    )
    if len(splits["train"]) < len(all_of_train):
        module.drawn_from["train"] = all_of_train
    module.notes += [*found.notes, *notes, *([] if only else shared_cases(splits, ImageDataModule.noun))]
    return module


def _divide(samples: list[ImageSample], section: Section, seed: int) -> Splits:
    """Sort images into splits; those of one group stay together."""
    if section.fold is not None and section.source not in (FILES, STORED):  # the usual split of scans is no promise
        samples = [replace(sample, split=None) for sample in samples]
    samples = with_fold(samples, section, seed)
    cut = divide if all(sample.group is None for sample in samples) else divide_by_cases
    return cut(samples, section.splits)


def all_samples(recipe: Recipe) -> list[ImageSample]:
    """Every image that a recipe names, whatever the seed draws of them."""
    section = recipe.data
    return (read_multi_label(section) if section.multi_label else read_samples(section)).samples
