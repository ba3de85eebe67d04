"""Expressions, split by split, as batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from augment.detection import RandomPart
from augment.grounding import GroundingEvaluation, GroundingTraining
from vision_train.data.dim_images import dim_images
from vision_train.data.module import SampleDataModule
from vision_train.data.phrases import Section
from vision_train.data.phrases.dataset import PhraseDataset, Preparation, Transform
from vision_train.data.phrases.tokens import WordPieces
from vision_train.data.sample import Sample
from vision_train.errors import UserError
from vision_train.recipe.preprocessing import WHOLE
from vision_train.recipe.sections import Augment, Mixing, TrainAugment

USED = ("horizontal_flip", "color_jitter")
"""Keys of ``augment.train`` that mean something here."""


class PhraseDataModule(SampleDataModule):
    """Expressions of one recipe.

    Args:
        section: The recipe's ``data``.
        augment: What to do to the images.
        seed: Seed of the run.
        splits: The expressions, by split.
        tokenizer: Divides the expressions.

    Raises:
        UserError: The recipe asks for augmentation that boxes and expressions cannot follow.
    """

    noun = "expressions"
    repeats = "are about images of"

    def __init__(
        self,
        section: Section,
        augment: Augment,
        seed: int,
        splits: Mapping[str, Sequence[Sample]],
        tokenizer: WordPieces,
    ) -> None:
        super().__init__(section, seed, splits, [])
        self.tokenizer = tokenizer
        self.warnings += dim_images(list(dict.fromkeys(each.place for members in splits.values() for each in members)))
        self._training = Preparation(training_transform(section, augment), tokenizer, section.max_tokens, seed)
        self._evaluation = Preparation(evaluation_transform(section, augment), tokenizer, section.max_tokens, seed)

    def make_dataset(self, samples: Sequence[Any], *, stream: str | None, alone: bool) -> PhraseDataset:
        """Expressions with the transforms of training or of evaluation."""
        preparation = self._evaluation if stream is None else self._training
        return PhraseDataset(list(samples), preparation, self.section.on_bad if alone else "skip")

    def described(self) -> str:
        """How many expressions there are, and about how many images, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        images = len({sample.group for members in self._samples.values() for sample in members})
        return f"{counts} expressions about {images:,} images"


def training_transform(section: Section, augment: Augment) -> Transform:
    """What happens to one training image.

    Raises:
        UserError: The recipe asks for what boxes and expressions cannot follow.
    """
    _refuse_others(augment)
    pixels, steps, crop = augment.preprocessing, augment.train, section.crop
    return GroundingTraining(
        pixels.mean,
        pixels.std,
        section.image_size,
        section.scales or [section.image_size],
        None if crop is None else RandomPart(crop.probability, crop.short_sides, *crop.sides),
        steps.horizontal_flip,
        steps.color_jitter,
        shift=section.shift,
    )


def evaluation_transform(section: Section, augment: Augment) -> Transform:
    """What happens to one image in validation, test and prediction."""
    pixels = augment.preprocessing
    return GroundingEvaluation(pixels.mean, pixels.std, section.image_size)


def _refuse_others(augment: Augment) -> None:
    """Refuse what has no effect on images with expressions, rather than leave it out silently."""
    usual = TrainAugment()
    for key, value in vars(augment.train).items():
        if key not in USED and value != getattr(usual, key) and not (key == "interpolation" and value == "bilinear"):
            raise UserError(
                f"augment.train.{key}={value}: is not for images with expressions; set data.scales, data.crop and "
                f"data.shift, and {' and '.join(f'augment.train.{each}' for each in USED)} instead"
            )
    if augment.mixing != Mixing():
        raise UserError("augment.mixing: mixes labels of whole images, and these have expressions; leave it out")
    if augment.eval.crop_share not in (None, WHOLE) or augment.eval.interpolation not in (None, "bilinear"):
        raise UserError(f"augment.eval: images are resized whole and bilinearly; leave {augment.eval} out")
