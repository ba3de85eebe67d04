"""Images with boxes, from a recipe to batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from augment.geometry import View
from vision_train.data.box_labels import read_box_labels
from vision_train.data.boxes import Section
from vision_train.data.boxes.annotations import BoxSample, CategoryId
from vision_train.data.boxes.dataset import BoxDataset, Preparation
from vision_train.data.boxes.few import few
from vision_train.data.boxes.module import BoxDataModule, evaluation_transform
from vision_train.data.boxes.read import read_boxes
from vision_train.data.dataset import SampleLoader, sample_loader
from vision_train.data.divide import divide_images
from vision_train.data.findings import Findings
from vision_train.data.folds import with_fold
from vision_train.data.image_files import check_start, list_images, picture_sources
from vision_train.data.sampler import EvaluationSampler
from vision_train.data.splits import Splits, whole_split
from vision_train.data.unlabelled import streams_of, unlabelled_splits
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.wording import first_named

__all__ = ["all_samples", "build", "check_start", "image_transform", "loose", "picture_sources"]


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> BoxDataModule:
    """Read and check the images that a recipe names; as :meth:`vision_train.data.kind.Implementation.build`."""
    section, findings = recipe.data, Findings()
    found = read_boxes(section, findings)
    left_out = findings.settle(section.on_bad)
    splits: Splits
    if only:
        splits, cut = whole_split(found.samples, only), list[str]()
    else:
        folded = with_fold(found.samples, section, recipe.seed)
        splits, cut = divide_images(folded, section)
    categories = found.categories if classes is None else _known(classes, found.categories, found.samples, section)
    all_of_train = splits["train"]
    if not only:
        splits["train"] = few(splits["train"], section, list(categories), recipe.seed)
    section = replace(section, category_ids=list(categories.values()))
    beside, of_pool = (
        ({}, [])
        if only
        else unlabelled_splits(section, splits["train"], all_of_train, list(categories), read_box_labels)
    )
    module = BoxDataModule(
        section, recipe.augment, recipe.seed, splits | beside, categories, **streams_of(recipe, beside)
    )
    module.notes += [*found.notes, *cut, *left_out, *of_pool]
    module.notes += _padded(splits, section)
    module.warnings += [] if only else _never_learned(splits, list(categories))
    return module


def all_samples(recipe: Recipe) -> list[BoxSample]:
    """Every image that a recipe names, whatever the seed draws of them."""
    return read_boxes(recipe.data, Findings()).samples


def loose(
    recipe: Recipe, inputs: Sequence[Path], *, learner: str, taken: Callable[[str], bool] | None = None
) -> SampleLoader:
    """Load images without annotations, to predict on; as :meth:`vision_train.data.kind.Implementation.loose`."""
    section: Section = recipe.data
    paths, notes = list_images(inputs, taken)
    preparation = Preparation(evaluation_transform(section, recipe.augment))
    dataset = BoxDataset([BoxSample(path, path) for path in paths], [], preparation, section.on_bad)
    dataset.notes += notes
    return sample_loader(dataset, EvaluationSampler(len(dataset)), section.evaluation_batch_size, section.workers)


def image_transform(recipe: Recipe) -> Callable[[NDArray[np.uint8]], Tensor]:
    """Pixels to what the network takes, as in validation; as :meth:`vision_train.data.kind.Implementation`."""
    transform = evaluation_transform(recipe.data, recipe.augment)
    return lambda pixels: transform(View.whole(pixels), 0).image


def _known(
    classes: list[str], found: Mapping[str, CategoryId], samples: Sequence[BoxSample], section: Section
) -> dict[str, CategoryId]:
    """The number of each class of an earlier run: that of these annotations, or that of the run where they lack it.

    Raises:
        UserError: There are boxes of other classes.
    """
    held = Counter(label for sample in samples for label in sample.truth.labels)
    if others := [name for name in held if name not in classes]:
        raise UserError(
            f"{section.named()}: has boxes of {first_named(sorted(others))}, which the run does not know; its classes "
            f"are {first_named(classes)}"
        )
    own = dict(zip(classes, section.category_ids or range(1, len(classes) + 1), strict=False))
    return {name: found.get(name, own.get(name, 0)) for name in classes}


def _padded(splits: Splits, section: Section) -> list[str]:
    """Say that scores depend on what an image is evaluated beside, where they do."""
    sizes = {(each.truth.width, each.truth.height) for split in ("val", "test") for each in splits[split]}
    if section.eval_batch_size == 1 or len(sizes) < 2:
        return []
    return [
        f"data.eval_batch_size={section.eval_batch_size}: images of unlike sizes are padded to be measured together, "
        "which changes scores a little; data.eval_batch_size=1 measures as published results were"
    ]


def _never_learned(splits: Splits, classes: list[str]) -> list[str]:
    """Say which classes have no box in training, of all and of those that are measured."""
    held = {name: {label for each in members for label in each.truth.labels} for name, members in splits.items()}
    absent = [name for name in classes if name not in held["train"]]
    measured = [name for name in absent if any(name in held[split] for split in ("val", "test"))]
    rest = [name for name in absent if name not in measured]
    told = [
        f"no {split} image has a box, so that its AP is not defined: name a {split} split with boxes, or cut one with "
        "data.splits"
        for split in ("val", "test")
        if not held[split]
    ]
    if measured:
        told.append(
            f"no training image has a box of {first_named(measured)}, which val or test have: nothing can be learned "
            "of it, and its AP will be 0; add training images of it"
        )
    if rest:
        told.append(f"no image has a box of {first_named(rest)}, which the annotations list as a class")
    return told
