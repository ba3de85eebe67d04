"""Images with boxes, split by split, as batches."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from augment.detection import DetectionEvaluation, DetectionTraining, RandomPart
from vision_train.data.boxes import Section
from vision_train.data.boxes.annotations import CategoryId
from vision_train.data.boxes.dataset import BoxDataset, Preparation, Transform
from vision_train.data.dim_images import dim_images
from vision_train.data.labels import listed_classes
from vision_train.data.module import SampleDataModule
from vision_train.data.sample import Sample
from vision_train.errors import UserError
from vision_train.recipe.preprocessing import WHOLE
from vision_train.recipe.sections import Augment, TrainAugment
from vision_train.recipe.sections import Mixing as MixingOfBatches

ASPECTS = tuple(2 ** (step / 3) for step in range(-3, 4))
"""Width over height at which groups of batches begin: from 0.5 to 2."""


class BoxDataModule(SampleDataModule):
    """Images with boxes of one recipe.

    Args:
        section: The recipe's ``data``.
        augment: What to do to the images.
        seed: Seed of the run.
        splits: The images, by split.
        categories: Number of each class in the annotations, in the order of the label map.

    Attributes:
        category_ids: Number of each class in the annotations, parallel to ``classes``.
        image_ids: The annotations' id of each image that has one, by the id of its sample.

    Raises:
        UserError: The recipe asks for augmentation that boxes cannot follow.
    """

    noun = "images"

    def __init__(
        self,
        section: Section,
        augment: Augment,
        seed: int,
        splits: Mapping[str, Sequence[Sample]],
        categories: Mapping[str, CategoryId],
    ) -> None:
        super().__init__(section, seed, splits, list(categories))
        self.category_ids = list(categories.values())
        listed = {sample.id: getattr(sample, "image_id", None) for members in splits.values() for sample in members}
        self.image_ids = {name: number for name, number in listed.items() if number is not None}
        self.warnings += dim_images([sample.place for members in splits.values() for sample in members])
        self._training = Preparation(training_transform(section, augment), seed, section.min_side, section.mixing)
        self._evaluation = Preparation(evaluation_transform(section, augment), seed)

    def make_dataset(self, samples: Sequence[Any], *, stream: str | None, alone: bool) -> BoxDataset:
        """Images with the transforms of training or of evaluation."""
        preparation = self._evaluation if stream is None else self._training
        return BoxDataset(list(samples), self.classes, preparation, self.section.on_bad if alone else "skip")

    def batch_groups(self, samples: Sequence[Any]) -> list[int] | None:
        """The interval of aspect ratios that each image lies in; None of images whose size is not known before."""
        if any(sample.truth is None for sample in samples):
            return None
        return [bisect_right(ASPECTS, sample.truth.width / sample.truth.height) for sample in samples]

    def described(self) -> str:
        """How many images and boxes there are, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        boxes = ", ".join(
            f"{sum(len(sample.truth.boxes) for sample in members):,} {split}"
            for split, members in self._samples.items()
        )
        classes = f"{len(self.classes)} class{'es' if len(self.classes) > 1 else ''}"
        return f"{counts} images with boxes ({boxes}) of {classes}"

    @property
    def class_counts(self) -> dict[str, dict[str, int]]:
        """Boxes of each class in each split."""
        held = {
            split: Counter(label for sample in members for label in sample.truth.labels)
            for split, members in self._samples.items()
        }
        return {name: {split: counts[name] for split, counts in held.items()} for name in self.classes}

    def class_lines(self) -> list[str]:
        """The classes with the number of their boxes; annotations say themselves that they are classes."""
        return [listed_classes(self.class_counts)]


def training_transform(section: Section, augment: Augment) -> Transform:
    """What happens to one training image.

    Raises:
        UserError: The recipe asks for what boxes cannot follow.
    """
    _refuse_others(augment)
    pixels, train = augment.preprocessing, augment.train
    crop = section.crop
    part = None if crop is None else RandomPart(crop.probability, crop.short_sides, *crop.sides)
    return DetectionTraining(
        pixels.mean,
        pixels.std,
        section.scales or [section.short_side],
        section.long_side,
        part,
        train.horizontal_flip,
        train.color_jitter,
    )


def evaluation_transform(section: Section, augment: Augment) -> Transform:
    """What happens to one image in validation, test and prediction."""
    pixels = augment.preprocessing
    return DetectionEvaluation(pixels.mean, pixels.std, section.short_side, section.long_side)


def _refuse_others(augment: Augment) -> None:
    """Refuse what has no effect on images with boxes, rather than leave it out silently."""
    usual, used = TrainAugment(), ("horizontal_flip", "color_jitter")
    instead = "set data.scales and data.crop, augment.train.horizontal_flip and augment.train.color_jitter instead"
    for key, value in vars(augment.train).items():
        if key not in used and value != getattr(usual, key) and not (key == "interpolation" and value == "bilinear"):
            raise UserError(f"augment.train.{key}={value}: is not for images with boxes; {instead}")
    if augment.mixing != MixingOfBatches():
        raise UserError(
            "augment.mixing: mixes labels of whole images, and these have boxes; set data.mixing.mosaic and "
            "data.mixing.mixup instead"
        )
    if augment.eval.crop_share not in (None, WHOLE) or augment.eval.interpolation not in (None, "bilinear"):
        raise UserError(f"augment.eval: images with boxes are resized whole and bilinearly; leave {augment.eval} out")
