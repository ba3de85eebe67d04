"""Boxes of the padded frame, carried back to the pixels of the original image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from augment.geometry import Affine, clip_boxes, invert, map_boxes
from models.detr.boxes import to_corners
from vision_train.tasks.grounding.results import Corners


def original_corners(boxes: Tensor, frame: int, affines: Tensor, sizes: Sequence[tuple[int, int]]) -> Corners:
    """Left, top, right and bottom in pixels of the original images, B 4 float64, clipped to these last.

    Args:
        boxes: B 4, centre and sides as shares of the frame.
        frame: Its side in pixels.
        affines: B 3 3 float64, pixels of the original to those of the frame.
        sizes: B times height and width of the original.
    """
    corners = to_corners(boxes.detach().double()).cpu().numpy() * frame
    rows = zip(corners, affines.cpu().numpy(), sizes, strict=True)
    return np.stack([_one(box, affine, size) for box, affine, size in rows])


def _one(box: Corners, affine: Affine, size: tuple[int, int]) -> Corners:
    return clip_boxes(map_boxes(box[None], invert(affine)), size)[0][0]
