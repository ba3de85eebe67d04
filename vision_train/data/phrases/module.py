"""Expressions, split by split, as batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from augment.detection import RandomPart
from augment.grounding import GroundingEvaluation, GroundingTraining
from vision_train.data.dim_images import dim_images
from vision_train.data.module import POOL_SPLIT, PSEUDO_SPLIT, SampleDataModule, Stream
from vision_train.data.phrases import Section
from vision_train.data.phrases.dataset import PhraseDataset, Preparation, Transform
from vision_train.data.phrases.tokens import WordPieces
from vision_train.data.phrases.views import TWO, PhraseViews
from vision_train.data.sample import Sample
from vision_train.errors import UserError
from vision_train.recipe.preprocessing import WHOLE
from vision_train.recipe.sections import Augment, Mixing, TrainAugment
from vision_train.wording import count_of

USED = ("horizontal_flip", "color_jitter")
"""Keys of ``augment.train`` that mean something here."""
COLOURS, BLURRED = 0.4, 0.5
"""What the strong view of an expression without a box adds to the weak one: the strength of changes of colour, and the
share of the images that are blurred."""
SMALLER = 0.75
"""Long side of an image that is looked at once more in another place of the square, as a share of the square's."""


class PhraseDataModule(SampleDataModule):
    """Expressions of one recipe.

    Args:
        section: The recipe's ``data``.
        augment: What to do to the images.
        seed: Seed of the run.
        splits: The expressions, by split.
        tokenizer: Divides the expressions.
        streams: As :class:`SampleDataModule`.
        epoch_of: As :class:`SampleDataModule`.

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
        streams: Mapping[str, Stream] | None = None,
        epoch_of: Stream | None = None,
    ) -> None:
        super().__init__(section, seed, splits, [], streams, epoch_of)
        self.tokenizer = tokenizer
        self.warnings += dim_images(list(dict.fromkeys(each.place for members in splits.values() for each in members)))
        train = training_transform(section, augment, augment.train, "train")
        self._looks = partial(looks, section, augment)
        self._training = Preparation(train, tokenizer, section.max_tokens, seed)
        self._evaluation = replace(self._training, transform=evaluation_transform(section, augment))
        self._two = two_views(section, augment) if POOL_SPLIT in splits else ()

    def make_dataset(self, samples: Sequence[Any], *, stream: str | None, alone: bool) -> PhraseDataset | PhraseViews:
        """Expressions with the transforms of training or of evaluation, or in the two views of a pool."""
        on_bad = self.section.on_bad if alone else "skip"
        # A phase may be given another seed after its samples were drawn.
        training = replace(self._training, seed=self.seed)
        if stream == POOL_SPLIT:
            return PhraseViews(list(samples), self._two, training, on_bad, TWO)
        preparation = self._evaluation if stream is None else training
        return PhraseDataset(list(samples), preparation, on_bad)

    def make_views(self, samples: Sequence[Any], views: int, *, alone: bool) -> PhraseViews:
        """Expressions as in validation, then in so many weak views, which move what they mean, and strong ones."""
        transforms = [self._evaluation.transform, *self._looks(views)]
        training = replace(self._training, seed=self.seed)
        return PhraseViews(list(samples), transforms, training, self.section.on_bad if alone else "skip")

    def described(self) -> str:
        """How many expressions there are, and about how many images, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        labelled = [name for name in self.counts if name not in (POOL_SPLIT, PSEUDO_SPLIT)]
        images = len({sample.group for name in labelled for sample in self._samples[name]})
        return f"{counts} expressions, those with boxes about {count_of(images, 'images')}"


def training_transform(section: Section, augment: Augment, steps: TrainAugment, key: str) -> GroundingTraining:
    """What happens to one training image.

    Args:
        section: Says its sizes and what is cropped.
        augment: Says how pixels are normalised.
        steps: What is drawn at random.
        key: Where ``augment`` has them, for messages.

    Raises:
        UserError: The recipe asks for what boxes and expressions cannot follow.
    """
    _refuse_others(augment, steps, key)
    pixels, crop = augment.preprocessing, section.crop
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


def two_views(section: Section, augment: Augment) -> tuple[GroundingTraining, ...]:
    """The view of an expression without a box that a teacher answers, and the one that a student learns.

    Neither is cropped: without a box nobody knows what a crop may leave out.

    Raises:
        UserError: The recipe asks for what expressions cannot follow.
    """
    weak = training_transform(section, augment, augment.weak_view, "weak")
    steps = augment.strong or replace(augment.weak_view, color_jitter=COLOURS)
    strong = training_transform(section, augment, steps, "strong")
    return replace(weak, part=None, scales=[section.image_size], shift=False), replace(strong, part=None, blur=BLURRED)


def looks(section: Section, augment: Augment, views: int) -> list[Transform]:
    """Views under which a prediction is compared with that of validation.

    Weak ones move what an expression means: in turn mirrored, with left and right of the text exchanged, and smaller at
    another place. Images that training does not mirror are only smaller. Strong ones change colours, and are blurred.
    """
    weak, strong = two_views(section, augment)
    smaller = replace(weak, flip=0.0, scales=[max(1, round(SMALLER * section.image_size))], shift=True)
    moved = [replace(weak, flip=1.0), smaller] if augment.weak_view.horizontal_flip else [smaller]
    still = replace(strong, flip=0.0, blur=1.0, scales=[section.image_size], shift=False)
    return [*(moved[place % len(moved)] for place in range(views)), *([still] * views)]


def evaluation_transform(section: Section, augment: Augment) -> Transform:
    """What happens to one image in validation, test and prediction."""
    pixels = augment.preprocessing
    return GroundingEvaluation(pixels.mean, pixels.std, section.image_size)


def _refuse_others(augment: Augment, steps: TrainAugment, where: str) -> None:
    """Refuse what has no effect on images with expressions, rather than leave it out silently."""
    usual = TrainAugment()
    for key, value in vars(steps).items():
        if key not in USED and value != getattr(usual, key) and not (key == "interpolation" and value == "bilinear"):
            raise UserError(
                f"augment.{where}.{key}={value}: is not for images with expressions; set data.scales, data.crop and "
                f"data.shift, and {' and '.join(f'augment.{where}.{each}' for each in USED)} instead"
            )
    if augment.mixing != Mixing():
        raise UserError("augment.mixing: mixes labels of whole images, and these have expressions; leave it out")
    if augment.eval.crop_share not in (None, WHOLE) or augment.eval.interpolation not in (None, "bilinear"):
        raise UserError(f"augment.eval: images are resized whole and bilinearly; leave {augment.eval} out")
