"""From a list of images with boxes to padded batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment.detection import place_boxes, relative_boxes
from augment.geometry import Boxes, View
from vision_train.data.boxes.annotations import Annotated, BoxSample, Corners
from vision_train.data.dataset import SKIP_BAD, Batch, OnBad, SampleDataset
from vision_train.data.decode import decode_large
from vision_train.data.sample import Pixels
from vision_train.data.sampler import Position
from vision_train.errors import BadSampleError, UserError
from vision_train.files import printable
from vision_train.seeds import derive_seed

Transform = Callable[[View[Pixels], int], View[Tensor]]
STRIDE = 32
"""Height and width of a batch are multiples of this."""


@dataclass(frozen=True)
class Preparation:
    """What is done to each image.

    Attributes:
        transform: Applied to the decoded pixels.
        seed: Of the run.
        min_side: Boxes that are narrower or lower than this afterwards are dropped, in pixels; 0 keeps all.
    """

    transform: Transform
    seed: int = 0
    min_side: float = 0.0


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
        """Decode and transform one image with its boxes."""
        index, epoch = position
        pixels = original_pixels(sample)
        seed = derive_seed(self.preparation.seed, "augmentation", epoch, index)
        view = self.preparation.transform(View.whole(pixels), seed)
        item: dict[str, Any] = {"image": view.image, "affine": view.affine, "size": pixels.shape[:2]}
        return item if sample.truth is None else item | self._placed(sample.truth, view)

    def _placed(self, truth: Annotated, view: View[Tensor]) -> dict[str, Tensor]:
        assert view.affine is not None, "every step of detection is tracked"
        size = (view.image.shape[1], view.image.shape[2])
        boxes, ignored = (place_boxes(_array(each), view.affine, size) for each in (truth.boxes, truth.ignored))
        kept, kept_ignored = (_large_enough(each, self.preparation.min_side) for each in (boxes, ignored))
        ids = np.array([self._index[label] for label in truth.labels], dtype=np.int64)
        return {
            "boxes": torch.from_numpy(relative_boxes(boxes[kept], size)).float(),
            "class_ids": torch.from_numpy(ids[kept]),
            "ignore": torch.from_numpy(relative_boxes(ignored[kept_ignored], size)).float(),
        }

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Pad images of unequal size at their right and bottom to the largest, rounded up to a multiple of 32.

        Returns:
            ``image`` (B 3 H W float32, 0 on padding, which is the mean of the normalised pixels), ``padding_mask``
            (B H W, True on padding), ``affine`` (B 3 3 float64, original pixels to those of the network), ``size`` (a
            list of original height and width) and, of images with a truth, the lists ``boxes`` (n x 4 float32: centre
            x, centre y, width, height as shares of the image without padding), ``class_ids`` (n, int64) and ``ignore``
            (m x 4, as ``boxes``).
        """
        image, padding_mask = pad_images([item["image"] for item in items])
        affine = torch.from_numpy(np.stack([item["affine"] for item in items]))
        listed = [key for key in ("boxes", "class_ids", "ignore") if key in items[0]]
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
        path, reason = next(iter(bad.items()))
        return UserError(f"unusable image {path}: {reason}. Repair or remove it, or {SKIP_BAD}", shared=shared)


def original_pixels(sample: BoxSample) -> Pixels:
    """An image as its annotations see it, H W 3.

    Raises:
        BadSampleError: It cannot be read, or is of another size than its annotations say.
    """
    pixels = decode_large(sample.image) if isinstance(sample.image, str) else sample.image
    height, width = pixels.shape[:2]
    if isinstance(sample.truth, Annotated) and (sample.truth.width, sample.truth.height) != (width, height):
        annotated = f"its annotations are of {sample.truth.width} x {sample.truth.height} pixels"
        raise BadSampleError(f"{annotated}, but it has {width} x {height}{_turned(sample.truth, width, height)}")
    return pixels


def _turned(truth: Annotated, width: int, height: int) -> str:
    if (truth.height, truth.width) != (width, height):
        return "; its boxes would lie elsewhere"
    return " as it is shown: the boxes were drawn before the file's EXIF turned it; save it without that, upright"


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


def _array(boxes: Sequence[Corners]) -> Boxes:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _large_enough(boxes: Boxes, min_side: float) -> NDArray[np.bool_]:
    sides = boxes[:, 2:] - boxes[:, :2]
    kept: NDArray[np.bool_] = np.all((sides > 0) & (sides >= min_side), axis=1)
    return kept
