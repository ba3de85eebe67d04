"""Images that bear any number of labels each, from a recipe to batches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from vision_train.data.cases import shared_cases
from vision_train.data.dataset import Batch
from vision_train.data.folds import with_fold
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.images import SIGNS, Section
from vision_train.data.images.reading import read_multi_label
from vision_train.data.label_sets import (
    LabelSet,
    divide_label_sets,
    draw_positives_per_class,
    label_set_map,
    without_positives,
)
from vision_train.data.labels import in_declared_order
from vision_train.data.sample import ImageSample
from vision_train.data.splits import Splits, whole_split
from vision_train.data.unlabelled import streams_of, unlabelled_splits
from vision_train.recipe.recipe import Recipe


class LabelSetTargets:
    """Truths that are sets of labels -> ``label`` (B K, float32): 1 present, 0 absent, NaN unknown.

    Args:
        classes: K names; a column of the targets is a place in this list.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._index = {name: index for index, name in enumerate(classes)}

    def __call__(self, truths: list[LabelSet]) -> Batch:
        """The targets of a batch."""
        targets = torch.zeros(len(truths), len(self._index))
        for row, truth in zip(targets, truths, strict=True):
            row[[self._index[name] for name in truth.present]] = 1.0
            row[[self._index[name] for name in truth.unknown]] = math.nan
        return {"label": targets}


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
    together = [] if only else shared_cases(splits, LabelSetDataModule.noun)
    module.notes += [*found.notes, *without_positives(splits, names), *notes, *together]
    return module


def _divide(samples: list[ImageSample], section: Section, seed: int) -> Splits:
    """Sort images into splits."""
    if section.fold is not None and section.source == SIGNS:  # the usual split of drawn pictures is no promise
        samples = [replace(sample, split=None) for sample in samples]
    return divide_label_sets(with_fold(samples, section, seed), section.splits)
