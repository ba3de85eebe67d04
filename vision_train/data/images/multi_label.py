"""Images that bear any number of labels each, from a recipe to batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from vision_train.data.folds import with_fold
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.image_section import FILES, STORED
from vision_train.data.image_tables import FoundImages
from vision_train.data.images import SIGNS, Section
from vision_train.data.label_set_tables import read_label_sets
from vision_train.data.label_sets import (
    LabelSet,
    LabelSetTargets,
    divide_label_sets,
    draw_positives_per_class,
    label_set_map,
    without_positives,
)
from vision_train.data.labels import in_declared_order
from vision_train.data.sample import ImageSample
from vision_train.data.sources import image_root, stored_root
from vision_train.data.splits import Splits, whole_split
from vision_train.data.stored_tables import Wanted, read_stored
from vision_train.data.toy.signs import signs_samples
from vision_train.data.unlabelled import streams_of, unlabelled_splits
from vision_train.recipe.recipe import Recipe


class LabelSetDataModule(ImageDataModule):
    """Images whose truths are sets of labels."""

    @property
    def class_counts(self) -> dict[str, dict[str, int]]:
        """Samples that bear each class, in each split."""
        held = {
            split: Counter(name for sample in members for name in sample.truth.present)
            for split, members in self._samples.items()
            if members and isinstance(members[0].truth, LabelSet)
        }
        return {name: {split: counts[name] for split, counts in held.items()} for name in self.classes}

    def described(self) -> str:
        """How many images there are, and that classes are no division of them."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        return f"{counts} images, each of any of {len(self.classes)} classes"


def build_label_sets(recipe: Recipe, classes: list[str] | None, only: str | None) -> LabelSetDataModule:
    """Read and check the images that a recipe names; as :meth:`vision_train.data.kind.Implementation.build`."""
    section: Section = recipe.data
    found = read_multi_label(section, classes or ())
    splits = whole_split(found.samples, only) if only else _divide(found.samples, section, recipe.seed)
    names = label_set_map(splits, classes)
    names = classes or in_declared_order(names, section.classes)
    all_of_train = splits["train"]
    if section.labels_per_class is not None and not only:
        splits["train"] = draw_positives_per_class(splits["train"], section.labels_per_class, recipe.seed)
    beside, notes = ({}, []) if only else unlabelled_splits(section, splits["train"], all_of_train, names)
    module = LabelSetDataModule(
        section,
        recipe.augment,
        recipe.seed,
        splits | beside,
        names,
        LabelSetTargets(names),
        **streams_of(recipe, beside),
    )
    if len(splits["train"]) < len(all_of_train):
        module.drawn_from["train"] = all_of_train
    module.notes += [*found.notes, *without_positives(splits, names), *notes]
    return module


def _divide(samples: list[ImageSample], section: Section, seed: int) -> Splits:
    """Sort images into splits."""
    if section.fold is not None and section.source == SIGNS:  # the usual split of drawn pictures is no promise
        samples = [replace(sample, split=None) for sample in samples]
    return divide_label_sets(with_fold(samples, section, seed), section.splits)


def read_multi_label(section: Section, declared: Collection[str] = ()) -> FoundImages:
    """List the samples that a recipe's ``data`` names, with their sets of labels.

    Args:
        section: What to read.
        declared: Names that are those of classes, besides ``data.classes``.

    Raises:
        UserError: As :func:`vision_train.data.label_set_tables.read_label_sets`.
    """
    if section.source == STORED:
        wanted = Wanted(section.label_column, several=True, declared=[*(section.classes or declared)])
        return read_stored(stored_root(section), section.on_bad, wanted)
    if section.source != FILES:
        return FoundImages([*signs_samples()])
    root = image_root(section)
    assert section.labels is not None, "the section refuses folders"
    return read_label_sets(Path(section.labels), root, section.on_bad, declared=[*(section.classes or declared)])
