"""Images to learn from without their labels, from a recipe to batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from vision_train.data.classes import divide, draw_labels_per_class, label_map
from vision_train.data.dataset import ClassLabels
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.image_files import check_start, image_transform, loose, picture_sources
from vision_train.data.image_tables import FoundImages
from vision_train.data.labels import in_declared_order
from vision_train.data.pool import Section
from vision_train.data.sample import ImageSample
from vision_train.data.sources import read_samples
from vision_train.data.splits import DEFAULT_SHARE, Splits, by_split, cut_shares, whole_split
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe

__all__ = ["all_samples", "build", "check_start", "image_transform", "loose", "picture_sources"]

PROBE_SPLITS = ("probe_train", "probe_val")
"""Labelled images that measure features: those that a probe learns from, and those that it is measured on."""


class PoolDataModule(ImageDataModule):
    """Images without labels, whose validation is accompanied by the labelled images of a probe."""

    companions: ClassVar = {"val": PROBE_SPLITS}

    def described(self) -> str:
        """How many images there are, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items() if split not in PROBE_SPLITS)
        if not self.classes:
            return f"{counts} images without labels"
        learnt, measured = (self.counts[split] for split in PROBE_SPLITS)
        return (
            f"{counts} images without labels; {learnt:,} of {len(self.classes)} classes for the linear probe, which is "
            f"measured on {measured:,}"
        )


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> PoolDataModule:
    """Read and check the images that a recipe names; as :meth:`vision_train.data.kind.Implementation.build`.

    Where no split ``val`` is named, a share of the images is cut for it, by their ids alone. Test images are left
    alone. The label map is that of the probe, which finds it anew.
    """
    section = recipe.data
    found = read_samples(section, divided=only is None, labelled=False)
    splits = whole_split(found.samples, only) if only else _divide(found.samples, section)
    del splits["test"]
    probe, names, notes = _probe(found.samples if only is None else [], section, recipe.seed)
    unlabelled = {name: [replace(sample, truth=None) for sample in members] for name, members in splits.items()}
    module = PoolDataModule(section, recipe.augment, recipe.seed, unlabelled | probe, names, ClassLabels(names))
    module.notes += found.notes + notes
    return module


def all_samples(recipe: Recipe) -> list[ImageSample]:
    """Every image that a recipe names, those of its probe included."""
    pool = read_samples(recipe.data, labelled=False).samples
    return [*pool, *labelled_samples(pool, recipe.data).samples]


def _divide(samples: list[ImageSample], section: Section) -> Splits:
    splits = by_split(samples)
    if not splits["train"]:
        raise UserError(f"{section.labels or section.root}: no image to learn from; all of them are val or test")
    if splits["val"]:
        return splits
    if len(splits["train"]) == 1:
        raise UserError(f"{section.labels or section.root}: one image is too few; pre-training validates on another")
    return splits | cut_shares(splits["train"], {"val": (section.splits or {}).get("val", DEFAULT_SHARE)})


def labelled_samples(pool: list[ImageSample], section: Section) -> FoundImages:
    """The images of the probe: those that ``data.probe`` names, or else those of the pool that have a label.

    Raises:
        UserError: ``data.probe`` names nothing that could be read.
    """
    if section.probe is None:
        return FoundImages([sample for sample in pool if sample.truth is not None])
    place = Path(section.probe)
    if not place.exists():
        raise UserError("no such folder or csv file; name labelled images, or leave it null")
    root, table = (section.probe, None) if place.is_dir() else (None, section.probe)
    return read_samples(replace(section, source="images", root=root, labels=table))


def _probe(pool: list[ImageSample], section: Section, seed: int) -> tuple[Splits, list[str], list[str]]:
    """The images of the probe with the label map and what is to be said of them; nothing where labels do not suffice.

    Raises:
        UserError: They do not, though ``data.probe`` names them.
    """
    try:
        found = labelled_samples(pool, section)
        if not any(sample.split != "test" for sample in found.samples):
            return {}, [], []
        divided = divide(found.samples, section.splits)
        splits = dict(zip(PROBE_SPLITS, (divided["train"], divided["val"]), strict=True))
        classes = in_declared_order(label_map(splits), section.classes)
    except UserError as error:
        if section.probe is not None:
            raise UserError(f"data.probe {section.probe}: {error}") from error
        return {}, [], [f"no linear probe of the features: {error}"]
    if section.labels_per_class is not None:
        learnt_from = PROBE_SPLITS[0]
        splits[learnt_from] = _at_most(splits[learnt_from], section.labels_per_class, seed)
    return splits, classes, [f"data.probe: {note}" for note in found.notes]


def _at_most(members: list[ImageSample], count: int, seed: int) -> list[ImageSample]:
    """So many images of each class, drawn with the seed; all of a class that has fewer."""
    sizes = Counter(sample.truth for sample in members)
    many = [sample for sample in members if sizes[sample.truth] > count]
    few = [sample for sample in members if sizes[sample.truth] <= count]
    return few + draw_labels_per_class(many, count, seed)
