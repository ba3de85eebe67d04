"""Images as batches, and labelled ones from a recipe to these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from augment.pipeline import eval_pipeline, train_pipeline
from vision_train.data.dataset import (
    SKIP_BAD_IMAGES,
    ImageDataset,
    ImageSample,
    OnBad,
    SampleLoader,
    Transform,
    sample_loader,
)
from vision_train.data.module import PROBE_SPLITS, SampleDataModule
from vision_train.data.sampler import EvaluationSampler
from vision_train.data.sources import read_samples
from vision_train.data.splits import Splits, divide, draw_labels_per_class, label_map, whole_split
from vision_train.errors import UserError
from vision_train.recipe.data_section import Data
from vision_train.recipe.sections import Augment


class ImageDataModule(SampleDataModule):
    """Images of one recipe, split by split, as batches.

    Args:
        data: Batch size, workers, image size and policy for bad images.
        augment: What to do to the images.
        seed: Of the run.
        splits: The images, by split.
        classes: The label map; empty where nothing has a label.

    Raises:
        UserError: The augmentation cannot be built.
    """

    noun = "images"

    def __init__(self, data: Data, augment: Augment, seed: int, splits: Splits, classes: list[str]) -> None:
        super().__init__(data, seed, splits, classes)
        self.augment = augment
        self._train_transform = _train_transform(data, augment)
        self._eval_transform = _eval_transform(data, augment)

    def make_dataset(self, samples: Sequence[Any], *, training: bool, alone: bool) -> ImageDataset:
        """Images with the transforms of training or of evaluation."""
        transform = self._train_transform if training else self._eval_transform
        return ImageDataset(list(samples), self.classes, transform, self.seed, self.on_bad if alone else "skip")

    @property
    def on_bad(self) -> OnBad:
        """The recipe's policy for unreadable images."""
        return self.data.on_bad_image

    def described(self) -> str:
        """How many images there are, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items() if split not in PROBE_SPLITS)
        if "test" in self.counts:
            return f"{counts} images of {len(self.classes)} classes"
        if not self.classes:
            return f"{counts} images without labels"
        learnt, measured = (self.counts[split] for split in PROBE_SPLITS)
        return (
            f"{counts} images without labels; {learnt:,} of {len(self.classes)} classes for the linear probe, which is "
            f"measured on {measured:,}"
        )


def labelled_images(
    data: Data, augment: Augment, seed: int, classes: list[str] | None = None, only: str | None = None
) -> ImageDataModule:
    """Images with a label each, as a recipe names them.

    Args:
        data: What to read.
        augment: What to do to it.
        seed: Of the run.
        classes: Label map of an earlier run, to evaluate or predict with; None takes the sorted names found.
        only: Evaluate this one split of other data than the run's own: nothing is cut from it or drawn.

    Raises:
        UserError: The data cannot be used as it is; one message names what is wrong.
    """
    samples = read_samples(data, divided=only is None)
    splits = whole_split(samples, only) if only else divide(samples, data.shares)
    label_names = label_map(splits, classes)
    if data.labels_per_class is not None and not only:
        splits["train"] = draw_labels_per_class(splits["train"], data.labels_per_class, seed)
    return ImageDataModule(data, augment, seed, splits, label_names)


def loose_images(data: Data, augment: Augment, paths: list[str], *, skip_with: str = SKIP_BAD_IMAGES) -> SampleLoader:
    """Load image files with the evaluation transforms, without the data set that the recipe trained on.

    Args:
        data: Batch size, workers, image size and policy for bad images.
        augment: Evaluation transforms and normalisation.
        paths: Files; a path given twice is read once.
        skip_with: What the user does to have unreadable images skipped, for the message.

    Returns:
        Loader of batches without labels; an image's id is its path as given. ``loader.dataset.skipped`` maps the
        unreadable files met to the reasons.

    Raises:
        UserError: ``paths`` is empty.
    """
    samples = [ImageSample(path, path) for path in dict.fromkeys(paths)]
    if not samples:
        raise UserError("no images to predict")
    dataset = ImageDataset(samples, [], _eval_transform(data, augment), 0, data.on_bad_image, skip_with)
    return sample_loader(dataset, EvaluationSampler(len(dataset)), data.batch_size, data.workers)


def _eval_transform(data: Data, augment: Augment) -> Transform:
    share = augment.eval.crop_share
    resize = None if share is None else math.floor(data.image_size / share)  # rounded as timm does
    return eval_pipeline(
        data.image_size, augment.mean, augment.std, resize=resize, interpolation=augment.eval.interpolation
    )


def _train_transform(data: Data, augment: Augment) -> Transform:
    try:
        return train_pipeline(data.image_size, augment.mean, augment.std, **asdict(augment.train))
    except ValueError as error:
        raise UserError(f"augment.train: {error}") from error
