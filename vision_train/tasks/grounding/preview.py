"""Training images with the box of their expression, as augmentation leaves them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vision_train.previews import BoxesOnImage, PreviewRow
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.grounding.boxes import original_corners

AUGMENTED, ORIGINAL = "as the network sees it", "original"
NOTE = "Expressions are those of the augmented image: mirrored with it, left and right change places."


def preview_rows(task: Task, batch: Batch) -> Iterator[PreviewRow]:
    """A row for each expression of a batch, with its box in the square and on the original.

    Args:
        task: Knows how pixels were normalised.
        batch: A training batch.
    """
    side = batch["image"].shape[-1]
    before = original_corners(batch["boxes"], side, batch["affine"], batch["size"])
    for place, name in enumerate(batch["id"]):
        x, y, width, height = (batch["boxes"][place].double() * side).tolist()
        corners = np.array([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
        text, label = batch["text"][place], np.zeros(1, dtype=np.int64)
        yield PreviewRow(
            name,
            {AUGMENTED: task.pixels_of(batch["image"][place])},
            {AUGMENTED: text},
            boxes={
                AUGMENTED: BoxesOnImage(corners, label, [text]),
                ORIGINAL: BoxesOnImage(before[place][None], label, [text]),
            },
        )
