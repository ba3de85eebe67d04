"""Resizing and cropping as results are published: torchvision's and timm's, on PIL images."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as torchvision_functional

from augment.geometry import (
    Interpolation,
    Pixels,
    Size,
    View,
    center_crop,
    height_and_width,
    moved,
    scale_to,
    translation,
)

THIN = 32
"""A thin picture, resized as a whole, has more than this many times the pixels of the rectangle that it covers."""
AFFORDABLE = 2**22
"""So many pixels are resized as a whole, be a picture thin or not."""


def resize_as_published(view: View[Pixels], size: tuple[int, int], interpolation: Interpolation) -> View[Pixels]:
    """Torchvision's resize of a PIL image to this height and width."""
    mode = InterpolationMode(interpolation)
    resized = np.array(torchvision_functional.resize(Image.fromarray(view.image), list(size), mode))
    return moved(view, resized, scale_to(view.image, size), size)


def crop_as_published(view: View[Pixels], cover: Size, size: Size, interpolation: Interpolation) -> View[Pixels]:
    """The middle of an image that was resized to cover a rectangle, as torchvision and timm evaluate.

    Args:
        view: The view.
        cover: Height and width that the resized image just covers while it keeps its aspect, or the length of its
            shorter side.
        size: Height and width of the middle, or the side of a square one.
        interpolation: How pixels are resampled.
    """
    rectangle = height_and_width(cover)
    whole = covering_size(view.image.shape[:2], rectangle)
    if whole[0] * whole[1] <= max(THIN * rectangle[0] * rectangle[1], AFFORDABLE):
        return center_crop(resize_as_published(view, whole, interpolation), size)
    # The whole of a picture of 20,000 x 1 pixels would take gigabytes, and next to nothing of it would be kept.
    return center_crop(_resized_middle(view, whole, height_and_width(size), interpolation), size)


def covering_size(size: tuple[int, int], rectangle: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image that is resized so that it just covers a rectangle and keeps its aspect.

    Rounded as torchvision's ``Resize`` does for a square, and as timm's ``ResizeKeepRatio`` for other rectangles.
    """
    (height, width), (rows, columns) = size, rectangle
    if rows == columns:
        longer = int(rows * max(size) / min(size))
        return (rows, longer) if height <= width else (longer, rows)
    ratio = min(height / rows, width / columns)
    return round(height / ratio), round(width / ratio)


def _resized_middle(
    view: View[Pixels], whole: tuple[int, int], wanted: tuple[int, int], interpolation: Interpolation
) -> View[Pixels]:
    """The middle of the resized image, within rounding, without the rest of it.

    Args:
        view: The view.
        whole: Height and width of the resized image.
        wanted: Height and width of its middle; what is not there is not returned.
        interpolation: How pixels are resampled.
    """
    height, width = (min(pair) for pair in zip(whole, wanted, strict=True))
    top, left = round((whole[0] - height) / 2), round((whole[1] - width) / 2)
    rows, columns = view.image.shape[:2]
    y, x = rows / whole[0], columns / whole[1]
    box = (left * x, top * y, min((left + width) * x, columns), min((top + height) * y, rows))
    mode = torchvision_functional.pil_modes_mapping[InterpolationMode(interpolation)]
    middle = np.array(Image.fromarray(view.image).resize((width, height), mode, box=box))
    return moved(view, middle, translation(-left, -top) @ scale_to(view.image, whole), (height, width))
