"""From a list of images with boxes to padded batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment.composition import Composed, blend, mosaic
from augment.detection import place_boxes, relative_boxes
from augment.geometry import IDENTITY, Boxes, View
from vision_train.data.annotated_images import annotated_pixels, refused_image
from vision_train.data.boxes import Mixing
from vision_train.data.boxes.annotations import Annotated, BoxSample
from vision_train.data.corners import Corners
from vision_train.data.dataset import Batch, SampleDataset
from vision_train.data.kind import OnBad
from vision_train.data.sample import ImageSample, Pixels
from vision_train.data.sampler import Position
from vision_train.errors import BadSampleError, UserError
from vision_train.files import printable
from vision_train.seeds import derive_seed

Transform = Callable[[View[Pixels], int], View[Tensor]]
LEAST_SHOWN = 0.1
"""An object becomes an ignored region if a mosaic shows a smaller share of it: nobody can tell what it is.
Ultralytics leaves out boxes that lose so much (``box_candidates``), so that the rest counts as background."""
EVERY_CLASS = -1
"""What stands for the class of an ignored region that holds any."""
STRIDE = 32
"""Height and width of a batch are multiples of this."""


@dataclass(frozen=True)
class Preparation:
    """What is done to each image.

    Attributes:
        transform: Applied to the decoded pixels.
        seed: Of the run.
        min_side: Boxes that are narrower or lower than this afterwards are dropped, in pixels; 0 keeps all.
        mixing: How many images are made of several; None makes none. The images need a truth.
    """

    transform: Transform
    seed: int = 0
    min_side: float = 0.0
    mixing: Mixing | None = None


class BoxDataset(SampleDataset):
    """Reads one image at a time.

    Args:
        samples: In their fixed order.
        classes: Names of the classes; a class id is a place in this list.
        preparation: What is done to each image.
        on_bad: What an image that cannot be read does.
    """

    noun = "images"

    def __init__(
        self, samples: Sequence[BoxSample], classes: Sequence[str], preparation: Preparation, on_bad: OnBad
    ) -> None:
        super().__init__(samples, on_bad)
        self.preparation = preparation
        self._index = {name: index for index, name in enumerate(classes)}

    def named(self, sample: BoxSample) -> str:
        """The path of its file, on one line."""
        return printable(sample.place or sample.id)

    def read(self, sample: BoxSample, position: Position) -> dict[str, Any]:
        """Decode and transform one image with its boxes, or one that is made of it and others."""
        index, epoch = position
        composed, truths = self._composed(sample, position)
        seed = derive_seed(self.preparation.seed, "augmentation", epoch, index)
        view = self.preparation.transform(View.whole(composed.image), seed)
        assert view.affine is not None, "every step of detection is tracked"
        affine = view.affine if composed.affines[0] is IDENTITY else view.affine @ composed.affines[0]
        item: dict[str, Any] = {"image": view.image, "affine": affine, "size": composed.image.shape[:2]}
        return item if sample.truth is None else item | self._placed(truths, composed, view)

    def _composed(self, sample: BoxSample, position: Position) -> tuple[Composed, list[Annotated]]:
        """The image of a sample, alone or with others, and the truth of each image in it."""
        pixels, mixing, (index, epoch) = original_pixels(sample), self.preparation.mixing, position
        composed, truths = Composed.whole(pixels), [sample.truth]
        if mixing is None or (mixing.epochs is not None and epoch >= mixing.epochs):
            return composed, truths
        random = np.random.default_rng(derive_seed(self.preparation.seed, "mixing", epoch, index))
        if random.random() < mixing.mosaic and min(pixels.shape[:2]) > 1:
            others = [self._other(random) for _ in range(3)]
            composed = mosaic([pixels, *(image for image, _ in others)], random)
            truths += [truth for _, truth in others]
        if random.random() < mixing.mixup:
            image, truth = self._other(random)
            composed = blend(composed, image, random)
            truths.append(truth)
        return composed, truths

    def _other(self, random: np.random.Generator) -> tuple[Pixels, Annotated]:
        """The pixels and truth of any sample; of the next readable one, where the policy is ``skip``."""
        first = int(random.integers(len(self.samples)))
        for offset in range(len(self.samples)):
            other: Any = self.samples[(first + offset) % len(self.samples)]
            try:
                return original_pixels(other), other.truth
            except BadSampleError as error:
                if self.on_bad == "error":
                    raise BadSampleError(f"it is mixed with {self.named(other)}: {error}") from error
        raise BadSampleError("no image that it could be mixed with can be read")

    def _placed(self, truths: Sequence[Annotated], composed: Composed, view: View[Tensor]) -> dict[str, Tensor]:
        assert view.affine is not None, "every step of detection is tracked"
        size = (view.image.shape[1], view.image.shape[2])
        all_boxes, shares = _together(composed, [truth.boxes for truth in truths])
        regions, _ = _together(composed, [truth.ignored for truth in truths])
        hardly = (shares > 0) & (shares < LEAST_SHOWN)
        boxes = place_boxes(all_boxes, view.affine, size)
        ignored = place_boxes(np.concatenate((regions, all_boxes[hardly])), view.affine, size)
        crowds = [self._index.get(name, EVERY_CLASS) for truth in truths for name in truth.ignored_classes]
        crowds += [EVERY_CLASS] * int(hardly.sum())
        areas = np.array([area for truth in truths for area in truth.object_areas], dtype=np.float64)
        kept, kept_ignored = (_large_enough(each, self.preparation.min_side) for each in (boxes, ignored))
        kept &= ~hardly
        ids = np.array([self._index[label] for truth in truths for label in truth.labels], dtype=np.int64)
        return {
            "boxes": torch.from_numpy(relative_boxes(boxes[kept], size)).float(),
            "class_ids": torch.from_numpy(ids[kept]),
            "areas": torch.from_numpy(areas[kept]),
            "ignore": torch.from_numpy(relative_boxes(ignored[kept_ignored], size)).float(),
            "ignore_ids": torch.from_numpy(np.array(crowds, dtype=np.int64)[kept_ignored]),
        }

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Pad images of unequal size at their right and bottom to the largest, rounded up to a multiple of 32.

        Returns:
            ``image`` (B 3 H W float32, 0 on padding, which is the mean of the normalised pixels), ``padding_mask``
            (B H W, True on padding), ``affine`` (B 3 3 float64, original pixels to those of the network), ``size`` (a
            list of original height and width) and, of images with a truth, the lists ``boxes`` (n x 4 float32: centre
            x, centre y, width, height as shares of the image without padding), ``class_ids`` (n, int64), ``areas`` (n,
            float64, of the objects in pixels of the original), ``ignore`` (m x 4, as ``boxes``) and ``ignore_ids`` (m,
            the class that a region is a crowd of, -1 for every class).
        """
        image, padding_mask = pad_images([item["image"] for item in items])
        affine = torch.from_numpy(np.stack([item["affine"] for item in items]))
        listed = [key for key in ("boxes", "class_ids", "areas", "ignore", "ignore_ids") if key in items[0]]
        return {
            "image": image,
            "padding_mask": padding_mask,
            "affine": affine,
            "size": [item["size"] for item in items],
            **{key: [item[key] for item in items] for key in listed},
        }

    def collate_truth(self, truths: list[Any]) -> Batch:
        """Nothing: boxes follow the pixels of their image, and are in the batch already."""
        return {}

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about the first image that cannot be used."""
        return refused_image(bad, shared=shared)


def original_pixels(sample: ImageSample) -> Pixels:
    """An image as its annotations see it, H W 3; as :func:`annotated_pixels`."""
    truth = sample.truth
    return annotated_pixels(sample.image, (truth.width, truth.height) if isinstance(truth, Annotated) else None)


def pad_images(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Images (3 H W) -> batch (B 3 H W, zero on padding) and mask (B H W, True on padding)."""
    height, width = (-(-max(image.shape[axis] for image in images) // STRIDE) * STRIDE for axis in (1, 2))
    batch = torch.zeros(len(images), 3, height, width)
    mask = torch.ones(len(images), height, width, dtype=torch.bool)
    for row, image, padding in zip(batch, images, mask, strict=True):
        rows, columns = image.shape[1:]
        row[:, :rows, :columns] = image
        padding[:rows, :columns] = False
    return batch, mask


def _together(composed: Composed, boxes: Sequence[Sequence[Corners]]) -> tuple[Boxes, NDArray[np.float64]]:
    """Boxes of each image in a composed one -> those of all, in its pixels, and the share that each keeps."""
    placed, shares = zip(*(composed.place(*each) for each in enumerate(map(_array, boxes))), strict=True)
    return np.concatenate(placed), np.concatenate(shares)


def _array(boxes: Sequence[Corners]) -> Boxes:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _large_enough(boxes: Boxes, min_side: float) -> NDArray[np.bool_]:
    sides = boxes[:, 2:] - boxes[:, :2]
    kept: NDArray[np.bool_] = np.all((sides > 0) & (sides >= min_side), axis=1)
    return kept
