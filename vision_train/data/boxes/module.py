"""Images with boxes, split by split, as batches."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from augment.detection import DetectionEvaluation, DetectionTraining, RandomPart
from vision_train.data.boxes import Section
from vision_train.data.boxes.annotations import Annotated, CategoryId
from vision_train.data.boxes.dataset import BoxDataset, Preparation, Transform
from vision_train.data.boxes.pseudo_boxes import PseudoBoxDataset
from vision_train.data.boxes.two_views import PoolViews, TwoViewDataset, Views
from vision_train.data.dim_images import dim_images
from vision_train.data.labels import listed_classes
from vision_train.data.module import POOL_SPLIT, PSEUDO_SPLIT, SampleDataModule, Stream
from vision_train.data.sample import Sample
from vision_train.errors import UserError
from vision_train.recipe.preprocessing import WHOLE
from vision_train.recipe.sections import Augment, TrainAugment
from vision_train.recipe.sections import Mixing as MixingOfBatches

ASPECTS = tuple(2 ** (step / 3) for step in range(-3, 4))
"""Width over height at which groups of batches begin: from 0.5 to 2."""
COLOURS, BLURRED, ERASING = 0.4, 0.5, 0.5
"""What the strong view of an unlabelled image adds to the weak one: the strength of changes of colour, and the shares
of the images that are blurred and, three times over, lose a rectangle."""


class BoxDataModule(SampleDataModule):
    """Images with boxes of one recipe.

    Args:
        section: The recipe's ``data``.
        augment: What to do to the images.
        seed: Seed of the run.
        splits: The images, by split.
        categories: Number of each class in the annotations, in the order of the label map.
        streams: As :class:`SampleDataModule`.
        epoch_of: As :class:`SampleDataModule`.

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
        streams: Mapping[str, Stream] | None = None,
        epoch_of: Stream | None = None,
    ) -> None:
        super().__init__(section, seed, splits, list(categories), streams, epoch_of)
        self.category_ids = list(categories.values())
        listed = {sample.id: getattr(sample, "image_id", None) for members in splits.values() for sample in members}
        self.image_ids = {name: number for name, number in listed.items() if number is not None}
        self.warnings += dim_images([sample.place for members in splits.values() for sample in members])
        train = training_transform(section, augment, augment.train, "train")
        self._training = Preparation(train, seed, section.min_side, section.mixing)
        self._view_of_pool = partial(views_of, section, augment)
        self._views = views_of(section, augment) if POOL_SPLIT in splits else None
        self._evaluation = Preparation(evaluation_transform(section, augment), seed)
        if section.mix_unlabelled:
            self.after_views = "two or four are mixed and parts of them erased (data.mix_unlabelled)"

    def make_dataset(
        self, samples: Sequence[Any], *, stream: str | None, alone: bool
    ) -> BoxDataset | TwoViewDataset | PseudoBoxDataset:
        """Images with the transforms of training or of evaluation, or in the views of a pool."""
        on_bad = self.section.on_bad if alone else "skip"
        if stream == POOL_SPLIT and self._views is not None:
            return TwoViewDataset(list(samples), self._views, self.seed, on_bad)
        if stream == PSEUDO_SPLIT and self._views is not None:
            return PseudoBoxDataset(list(samples), self.classes, self._views, self.seed, on_bad)
        # A phase may be given another seed after its samples were drawn.
        preparation = self._evaluation if stream is None else replace(self._training, seed=self.seed)
        return BoxDataset(list(samples), self.classes, preparation, on_bad)

    def make_views(self, samples: Sequence[Any], views: int, *, alone: bool) -> PoolViews:
        """Images as in validation, and under weak transforms and strong ones, which here crop and erase nothing."""
        seen = self._view_of_pool(whole=True)
        transforms = [self._evaluation.transform, *[seen.weak] * views, *[seen.strong] * views]
        return PoolViews(list(samples), transforms, self.seed, self.section.on_bad if alone else "skip")

    def batch_groups(self, samples: Sequence[Any]) -> list[int] | None:
        """The interval of aspect ratios that each image lies in; None of images whose size is not known before."""
        if not all(isinstance(sample.truth, Annotated) for sample in samples):
            return None
        return [bisect_right(ASPECTS, sample.truth.width / sample.truth.height) for sample in samples]

    def described(self) -> str:
        """How many images and boxes there are, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        boxes = ", ".join(
            f"{sum(len(sample.truth.boxes) for sample in members):,} {split}"
            for split, members in self._samples.items()
            if split not in (POOL_SPLIT, PSEUDO_SPLIT)
        )
        classes = f"{len(self.classes)} class{'es' if len(self.classes) > 1 else ''}"
        return f"{counts} images with boxes ({boxes}) of {classes}"

    @property
    def class_counts(self) -> dict[str, dict[str, int]]:
        """Boxes of each class in each split."""
        held = {
            split: Counter(label for sample in members for label in sample.truth.labels)
            for split, members in self._samples.items()
            if split not in (POOL_SPLIT, PSEUDO_SPLIT)
        }
        return {name: {split: counts[name] for split, counts in held.items()} for name in self.classes}

    def class_lines(self) -> list[str]:
        """The classes with the number of their boxes."""
        return [listed_classes(self.class_counts)]

    def class_doubts(self) -> list[str]:
        """None: annotations say themselves that they are classes."""
        return []


def training_transform(
    section: Section, augment: Augment, steps: TrainAugment, key: str, *, whole: bool = False, blur: float = 0.0
) -> Transform:
    """What happens to one training image.

    Args:
        section: Says its sizes and what is cropped.
        augment: Says how pixels are normalised.
        steps: What is drawn at random.
        key: Where ``augment`` has them, for messages.
        whole: Whether nothing is cropped, whatever the section says.
        blur: Share of the images that are blurred.

    Raises:
        UserError: The recipe asks for what boxes cannot follow.
    """
    _refuse_others(augment, steps, key)
    pixels, crop = augment.preprocessing, None if whole else section.crop
    part = None if crop is None else RandomPart(crop.probability, crop.short_sides, *crop.sides)
    return DetectionTraining(
        pixels.mean,
        pixels.std,
        section.scales or [section.short_side],
        section.long_side,
        part,
        steps.horizontal_flip,
        steps.color_jitter,
        blur,
    )


def views_of(section: Section, augment: Augment, *, whole: bool = False) -> Views:
    """What happens to an unlabelled image: the teacher sees all of it, and the student no more than that.

    Args:
        section: Says its sizes and what is cropped.
        augment: Says what is drawn at random.
        whole: Whether the strong view shows all of it as well.

    Raises:
        UserError: The recipe asks for what boxes cannot follow.
    """
    weak = augment.weak_view
    strong = augment.strong or replace(weak, color_jitter=COLOURS, erasing=ERASING)
    return Views(
        training_transform(section, augment, weak, "weak", whole=True),
        training_transform(section, augment, strong, "strong", whole=whole, blur=BLURRED),
        0.0 if section.mix_unlabelled else strong.erasing,  # of a mixed image something is erased after it was mixed
    )


def evaluation_transform(section: Section, augment: Augment) -> Transform:
    """What happens to one image in validation, test and prediction."""
    pixels = augment.preprocessing
    return DetectionEvaluation(pixels.mean, pixels.std, section.short_side, section.long_side)


def _refuse_others(augment: Augment, steps: TrainAugment, where: str) -> None:
    """Refuse what has no effect on images with boxes, rather than leave it out silently."""
    usual, used = TrainAugment(), ["horizontal_flip", "color_jitter", *(["erasing"] if where == "strong" else [])]
    instead = f"set data.scales and data.crop, and {', '.join(f'augment.{where}.{key}' for key in used)} instead"
    for key, value in vars(steps).items():
        if key not in used and value != getattr(usual, key) and not (key == "interpolation" and value == "bilinear"):
            raise UserError(f"augment.{where}.{key}={value}: is not for images with boxes; {instead}")
    if augment.mixing != MixingOfBatches():
        raise UserError(
            "augment.mixing: mixes labels of whole images, and these have boxes; set data.mixing.mosaic and "
            "data.mixing.mixup instead"
        )
    if augment.eval.crop_share not in (None, WHOLE) or augment.eval.interpolation not in (None, "bilinear"):
        raise UserError(f"augment.eval: images with boxes are resized whole and bilinearly; leave {augment.eval} out")
