"""Images as items and batches, for every kind of data whose samples are images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from augment.geometry import View
from augment.pipeline import TrainPipeline, eval_pipeline, train_pipeline
from vision_train.data.dataset import Batch, SampleDataset
from vision_train.data.decode import JPEG_ENDINGS, decode, decode_reduced, stored_content
from vision_train.data.dim_images import dim_images
from vision_train.data.image_section import ImageSection
from vision_train.data.kind import SKIP_BAD, OnBad
from vision_train.data.module import POOL_SPLIT, PSEUDO_SPLIT, SampleDataModule, Stream
from vision_train.data.pseudo_labels import PseudoTargets
from vision_train.data.sample import ImageSample, Pixels, Sample
from vision_train.data.sampler import Position
from vision_train.data.stored_images import StoredImage
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.recipe.preprocessing import resized_size
from vision_train.recipe.sections import Augment, TrainAugment
from vision_train.seeds import derive_seed

Transform = Callable[[View[Pixels], int], View[torch.Tensor]]
"""(view of H W 3 pixels, seed of this image in this epoch) -> view of 3 H W float32."""
REDUCED = (
    "data.decode=reduced: JPEGs to train on are decoded at 1/2, 1/4 or 1/8 of their size where their crops are shrunk "
    "at least that far; validation and test decode every pixel"
)
"""What a run says whose training images may be reduced."""
CollateTruth = Callable[[list[Any]], Batch]
"""Truths of the samples of a batch -> their part of the batch, such as ``label``."""


class ImageDataset(SampleDataset):
    """Decodes and transforms one image at a time.

    Args:
        samples: In their fixed order.
        transform: Applied to the decoded pixels.
        seed: Seed of the run.
        on_bad: The policy.
        collate_truth: Puts the truths of a batch together; None for samples without truth.
        reduced: Decode JPEGs at a fraction of their size where ``transform`` shrinks what it crops further than that.
    """

    noun = "images"

    def __init__(
        self,
        samples: Sequence[ImageSample],
        transform: Transform,
        seed: int,
        on_bad: OnBad,
        collate_truth: CollateTruth | None = None,
        *,
        reduced: bool = False,
    ) -> None:
        super().__init__(samples, on_bad)
        self.transform = transform
        self.reduced = reduced
        self.seed = seed
        self._collate_truth = collate_truth

    def named(self, sample: ImageSample) -> str:
        """The path of its file, on one line."""
        return printable(sample.place or sample.id)

    def read(self, sample: ImageSample, position: Position) -> dict[str, Any]:
        """Decode and transform one image."""
        index, epoch = position
        seed = derive_seed(self.seed, "augmentation", epoch, index)
        view = original_view(sample, [(self.transform, seed)], reduced=self.reduced)
        return {"image": self.transform(view, seed).image, "size": view.whole_size}

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Items -> ``image`` (B 3 H W) and ``size``."""
        return {"image": torch.stack([item["image"] for item in items]), "size": [item["size"] for item in items]}

    def collate_truth(self, truths: list[Any]) -> Batch:
        """Truths -> their part of the batch."""
        assert self._collate_truth is not None, "samples with a truth need to know how truths become a batch"
        return self._collate_truth(truths)

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about the first unreadable image."""
        path, reason = next(iter(bad.items()))
        return UserError(f"unreadable image {path}: {reason}. Repair or remove it, or {SKIP_BAD}", shared=shared)


def original_pixels(sample: ImageSample) -> Pixels:
    """An image as it is on disk, H W 3.

    Raises:
        BadSampleError: It cannot be read.
    """
    encoded = _encoded(sample.image)
    return encoded if isinstance(encoded, np.ndarray) else decode(encoded)


def _may_be_jpeg(sample: Sample) -> bool:
    """Whether an image seems to be a JPEG; what the rows of a table hold is not known before they are read."""
    image = getattr(sample, "image", None)
    return isinstance(image, StoredImage) or sample.place.lower().endswith(JPEG_ENDINGS)


def _encoded(image: str | StoredImage | Pixels) -> str | bytes | Pixels:
    """The file or the bytes that an image is decoded from, or its pixels."""
    return stored_content(image) if isinstance(image, StoredImage) else image


def original_view(sample: ImageSample, draws: Sequence[tuple[Transform, int]], *, reduced: bool) -> View[Pixels]:
    """An image that transforms are to be applied to, each with a seed.

    Args:
        sample: The image.
        draws: The transforms and their seeds.
        reduced: Divide its sides as far as each of the transforms allows; those of evaluation allow nothing.

    Raises:
        BadSampleError: It cannot be read.
    """
    training = [(transform, seed) for transform, seed in draws if isinstance(transform, TrainPipeline)]
    encoded = _encoded(sample.image)
    if isinstance(encoded, np.ndarray):
        return View.whole(encoded)
    if not reduced or len(training) < len(draws):
        return View.whole(decode(encoded))
    return decode_reduced(encoded, lambda size: min(each.factor(size, seed) for each, seed in training))


class TwoViewDataset(ImageDataset):
    """Decodes an unlabelled image once and makes two views of it.

    Args:
        samples: In their fixed order; without truth.
        weak: Makes the view that a teacher labels.
        strong: Makes the view that is learnt.
        seed: Seed of the run.
        on_bad: The policy.
        reduced: As :class:`ImageDataset`, for both views.
    """

    def __init__(
        self,
        samples: Sequence[ImageSample],
        weak: Transform,
        strong: Transform,
        seed: int,
        on_bad: OnBad,
        *,
        reduced: bool = False,
    ) -> None:
        super().__init__(samples, weak, seed, on_bad, reduced=reduced)
        self.strong = strong

    def read(self, sample: ImageSample, position: Position) -> dict[str, Any]:
        """Decode one image and draw its views, each from a seed of its own."""
        index, epoch = position
        purposes = {"weak view": self.transform, "strong view": self.strong}
        draws = [(make, derive_seed(self.seed, purpose, epoch, index)) for purpose, make in purposes.items()]
        view = original_view(sample, draws, reduced=self.reduced)
        return {name: make(view, seed).image for name, (make, seed) in zip(("weak", "strong"), draws, strict=True)}

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Items -> ``weak`` and ``strong``, each with ``image`` (B 3 H W)."""
        return {name: {"image": torch.stack([item[name] for item in items])} for name in ("weak", "strong")}


class PoolViews(ImageDataset):
    """Decodes an image once and shows it under each of several transforms, without its truth.

    Args:
        samples: In their fixed order.
        transforms: One for each view.
        seed: Seed of the run: with the id of an image and the number of a view, all that a view depends on.
        on_bad: The policy.
    """

    def __init__(
        self, samples: Sequence[ImageSample], transforms: Sequence[Transform], seed: int, on_bad: OnBad
    ) -> None:
        super().__init__(samples, transforms[0], seed, on_bad)
        self.transforms = list(transforms)

    def read(self, sample: ImageSample, position: Position) -> dict[str, Any]:
        """Decode an image and transform it in all ways."""
        view = View.whole(original_pixels(sample))
        seeds = [derive_seed(self.seed, "view of the pool", position[0], at) for at in range(len(self.transforms))]
        made = zip(self.transforms, seeds, strict=True)
        return {"views": [transform(view, seed).image for transform, seed in made]}

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Items -> ``views``, a list with ``image`` (B 3 H W) for each."""
        views = zip(*(item["views"] for item in items), strict=True)
        return {"views": [{"image": torch.stack(images)} for images in views]}

    def collate_truth(self, truths: list[Any]) -> Batch:
        """Nothing: networks are asked what they see, and are not told."""
        return {}


class ImageDataModule(SampleDataModule):
    """Images of one recipe, split by split, as batches.

    Args:
        section: Batch size, workers, image size and policy for bad images.
        augment: What to do to the images.
        seed: Seed of the run.
        splits: The images, by split.
        classes: The label map; empty where nothing has a label.
        collate_truth: Puts the truths of a batch together.
        streams: As :class:`SampleDataModule`.
        epoch_of: As :class:`SampleDataModule`.

    Raises:
        UserError: The augmentation cannot be built.
    """

    noun = "images"

    def __init__(
        self,
        section: ImageSection,
        augment: Augment,
        seed: int,
        splits: Mapping[str, Sequence[Sample]],
        classes: list[str],
        collate_truth: CollateTruth,
        streams: Mapping[str, Stream] | None = None,
        epoch_of: Stream | None = None,
    ) -> None:
        super().__init__(section, seed, splits, classes, streams, epoch_of)
        self._train_transform = train_transform(section, augment, augment.train, "train")
        self._augment = augment
        self._view: Callable[[TrainAugment, str], Transform] = partial(train_transform, section, augment)
        self._views: tuple[Transform, Transform] | None = None
        if POOL_SPLIT in splits:
            self._views = self._view(augment.weak_view, "weak"), self._view(augment.strong_view, "strong")
        self._eval_transform = eval_transform(section, augment)
        self._collate_truth = collate_truth
        self.warnings += dim_images([sample.place for samples in splits.values() for sample in samples])
        learnt = [sample for stream in self.streams.values() for sample in splits.get(stream.split, ())]
        self._reduced = section.decode == "reduced"
        if self._reduced and any(map(_may_be_jpeg, learnt)):
            self.notes.append(REDUCED)

    def make_dataset(self, samples: Sequence[Any], *, stream: str | None, alone: bool) -> ImageDataset:
        """Images with the transforms of training or of evaluation, or in the two views of a pool."""
        on_bad = self.section.on_bad if alone else "skip"
        listed, reduced = list(samples), self._reduced
        if stream == POOL_SPLIT and self._views is not None:
            return TwoViewDataset(listed, *self._views, self.seed, on_bad, reduced=reduced)
        if stream == PSEUDO_SPLIT and self._views is not None:
            truth = PseudoTargets(self.classes)
            return ImageDataset(listed, self._views[1], self.seed, on_bad, truth, reduced=reduced)
        if stream is None:
            return ImageDataset(listed, self._eval_transform, self.seed, on_bad, self._collate_truth)
        return ImageDataset(listed, self._train_transform, self.seed, on_bad, self._collate_truth, reduced=reduced)

    def make_views(self, samples: Sequence[Any], views: int, *, alone: bool) -> PoolViews:
        """Images as in validation, and under weak transforms and strong ones, which here erase nothing."""
        weak = self._view(self._augment.weak_view, "weak")
        strong = self._view(replace(self._augment.strong_view, erasing=0.0), "strong")
        transforms = [self._eval_transform, *[weak] * views, *[strong] * views]
        return PoolViews(list(samples), transforms, self.seed, self.section.on_bad if alone else "skip")

    def described(self) -> str:
        """How many images there are, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        return f"{counts} images" + (f" of {len(self.classes)} classes" if self.classes else "")


def eval_transform(section: ImageSection, augment: Augment) -> Transform:
    """What happens to one image in validation, test and prediction."""
    pixels, size = augment.preprocessing, section.height_and_width
    resize = resized_size(size, pixels.crop_share)
    return eval_pipeline(size, pixels.mean, pixels.std, resize=resize, interpolation=pixels.interpolation)


def train_transform(section: ImageSection, augment: Augment, steps: TrainAugment, key: str) -> Transform:
    """What happens to one training image.

    Args:
        section: Says the size of the image.
        augment: Says how pixels are normalised and resampled.
        steps: What is drawn at random.
        key: Where ``augment`` has them, for messages.

    Raises:
        UserError: The augmentation cannot be built.
    """
    pixels = augment.preprocessing
    options = {**asdict(steps), "interpolation": pixels.train_interpolation}
    try:
        return train_pipeline(section.height_and_width, pixels.mean, pixels.std, **options)
    except ValueError as error:
        raise UserError(f"augment.{key}: {error}") from error
