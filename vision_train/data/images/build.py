"""Labelled images, from a recipe to batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vision_train.data.classes import divide, draw_labels_per_class, label_map
from vision_train.data.dataset import ClassLabels
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.image_files import check_start, loose, picture_sources
from vision_train.data.kind import LABELLED, REST
from vision_train.data.labels import in_declared_order
from vision_train.data.module import POOL_SPLIT, PSEUDO_SPLIT
from vision_train.data.pseudo_labels import with_pseudo_labels
from vision_train.data.sample import ImageSample
from vision_train.data.sources import read_samples
from vision_train.data.splits import whole_split
from vision_train.data.unlabelled import choose_pool, list_pool, streams_of
from vision_train.recipe.recipe import Recipe

__all__ = ["all_samples", "build", "check_start", "loose", "picture_sources"]


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> ImageDataModule:
    """Read and check the images that a recipe names; as :meth:`vision_train.data.kind.Implementation.build`."""
    section = recipe.data
    found = read_samples(section, divided=only is None, declared=classes or ())
    splits = whole_split(found.samples, only) if only else divide(found.samples, section.splits)
    names = classes or in_declared_order(label_map(splits), section.classes)
    label_map(splits, names)
    all_of_train = splits["train"]
    if section.labels_per_class is not None and not only:
        splits["train"] = draw_labels_per_class(splits["train"], section.labels_per_class, recipe.seed)
    named = None if only else section.unlabelled
    pool, notes = _pool(named, splits["train"], all_of_train) if named else ([], [])
    pseudo_labelled, told = _pseudo_labelled(section, pool, splits["train"], names)
    beside = {POOL_SPLIT: pool, PSEUDO_SPLIT: pseudo_labelled}
    module = ImageDataModule(
        section,
        recipe.augment,
        recipe.seed,
        splits | {split: samples for split, samples in beside.items() if samples},
        names,
        ClassLabels(names),
        **streams_of(recipe, pool, pseudo_labelled),
    )
    if len(splits["train"]) < len(all_of_train):
        module.drawn_from["train"] = all_of_train
    module.notes += [*found.notes, *notes, *told]
    return module


def _pool(
    named: str, labelled: list[ImageSample], drawn_from: list[ImageSample]
) -> tuple[list[ImageSample], list[str]]:
    """The images of ``data.unlabelled`` without their labels, and what the user should know of them."""
    found, notes = (None, []) if named in (REST, LABELLED) else list_pool(named)
    chosen = choose_pool(named, found, labelled, drawn_from)
    return [replace(sample, truth=None, split=None) for sample in chosen], notes


def _pseudo_labelled(
    section: Any, pool: list[ImageSample], labelled: list[ImageSample], classes: list[str]
) -> tuple[list[ImageSample], list[str]]:
    """The images of the pool that ``data.pseudo_labels`` keeps a label of, and what the user should know of them."""
    if section.pseudo_labels is None or not pool:
        return [], []
    people = [] if section.unlabelled == LABELLED else labelled
    return with_pseudo_labels(Path(section.pseudo_labels), pool, people, classes)


def all_samples(recipe: Recipe) -> list[ImageSample]:
    """Every image that a recipe names, whatever the seed draws of them."""
    return read_samples(recipe.data).samples
