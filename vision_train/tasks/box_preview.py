"""Training images with their boxes, as augmentation leaves them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vision_train.previews import BoxesOnImage, PreviewRow
from vision_train.tasks.base import Batch, Task
from vision_train.wording import count_of

Numbers = NDArray[np.float64]
AUGMENTED, ORIGINAL = "augmented", "original"
NOTE = "On the original: the boxes that training keeps, and a dashed line around the part that the network gets."


def preview_rows(task: Task, batch: Batch) -> Iterator[PreviewRow]:
    """A row for each image of a batch, without its padding; on the original is what training keeps of its boxes.

    Args:
        task: Knows the classes and how pixels were normalised.
        batch: A training batch.
    """
    for place, name in enumerate(batch["id"]):
        unpadded = ~batch["padding_mask"][place]
        height, width = int(unpadded.any(1).sum()), int(unpadded.any(0).sum())
        boxes = batch["boxes"][place].double().numpy() * (width, height, width, height)
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        labels = batch["class_ids"][place].numpy()
        affine = batch["affine"][place].numpy()
        before, part = (_mapped_back(each, affine) for each in (corners, np.array([[0.0, 0, width, height]])))
        counted = f"{width} × {height}, {count_of(len(labels), 'boxes')}"
        yield PreviewRow(
            name,
            {AUGMENTED: task.pixels_of(batch["image"][place, :, :height, :width])},
            {AUGMENTED: counted},
            boxes={
                AUGMENTED: BoxesOnImage(corners, labels, task.classes),
                ORIGINAL: BoxesOnImage(before, labels, task.classes, part=_unless_all(part[0], batch["size"][place])),
            },
        )


def _unless_all(part: Numbers, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """The corners of a part of an image of this height and width; None if less than a pixel of it is left out."""
    if np.abs(part - (0, 0, size[1], size[0])).max() < 1:
        return None
    left, top, right, bottom = part.tolist()
    return left, top, right, bottom


def _mapped_back(corners: Numbers, affine: Numbers) -> Numbers:
    """Boxes in pixels of the network -> those of the original; a mirrored box has its left side right again."""
    inverse = np.linalg.inv(affine)
    ends = [corners[:, part] @ inverse[:2, :2].T + inverse[:2, 2] for part in (slice(0, 2), slice(2, 4))]
    return np.concatenate([np.minimum(*ends), np.maximum(*ends)], axis=1)
