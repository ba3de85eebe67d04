"""Whether boxes are all alike, as those of a network that answers every expression with one and the same box.

Our choice throughout.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import from_numpy
from torchvision.ops import box_iou

SAME = 0.5
"""IoU with the middle box from which on a box is like it."""


def alike_share(boxes: NDArray[np.float64]) -> float:
    """Share of boxes that overlap the middle one (the median of each side) by an IoU of 0.5 or more.

    Args:
        boxes: n 4, left, top, right, bottom as shares of the image's width and height.

    Returns:
        In [0, 1]; NaN of none.
    """
    if not len(boxes):
        return math.nan
    middle = np.median(boxes, axis=0, keepdims=True)
    return float((box_iou(from_numpy(boxes), from_numpy(middle)) >= SAME).float().mean())


def have_collapsed(found: float, true: float) -> bool:
    """Whether the boxes of a pool are far more alike than true ones: nearer to all than to the share of those.

    Args:
        found: :func:`alike_share` of the pool's boxes.
        true: That of labelled ones; NaN where it is not known, which tells nothing.
    """
    return found > (1 + true) / 2
