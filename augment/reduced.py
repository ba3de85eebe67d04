"""Images that were decoded at a fraction of their size, because a crop of them is shrunk at least that far anyway.

A decoder such as libjpeg halves an image once, twice or three times while it decodes, which saves most of the work. Of
a side that is no multiple of the factor the last pixel covers less than the others, so a coordinate of the original
image is divided by exactly the factor, whatever the sides are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from augment.geometry import Affine, Interpolation, Pixels, View, map_points, scale, translation

FACTORS = (8, 4, 2, 1)
"""By which libjpeg divides both sides of an image, without resampling."""


class Turn(NamedTuple):
    """How stored pixels are brought upright: first rows and columns change places, then each may run backwards."""

    transposed: bool
    rows_backwards: bool
    columns_backwards: bool


def turn_of(orientation: int) -> Turn:
    """What an orientation as EXIF counts it, 1 to 8, asks for."""
    return Turn(orientation >= 5, orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7))


def turned(pixels: Pixels, turn: Turn) -> Pixels:
    """Stored pixels, H W 3, upright."""
    if turn.transposed:
        pixels = pixels.transpose(1, 0, 2)
    rows, columns = (-1 if backwards else 1 for backwards in turn[1:])
    return np.ascontiguousarray(pixels[::rows, ::columns])


def factor_for(rectangle: tuple[int, int, int, int], size: tuple[int, int]) -> int:
    """By how much an image may be divided before a crop of it is resized, so that nothing is enlarged for it.

    Args:
        rectangle: Left, top, right and bottom of the crop.
        size: Height and width that it is resized to.

    Returns:
        One of :data:`FACTORS`; 1 where the crop is less than twice as large on either side.
    """
    left, top, right, bottom = rectangle
    shrunk = min((right - left) / size[1], (bottom - top) / size[0])
    return next(factor for factor in FACTORS if factor <= max(shrunk, 1))


def reduced_view(stored: Pixels, factor: int, stored_size: tuple[int, int], turn: Turn) -> View[Pixels]:
    """The view of an image that was decoded at a fraction of its size.

    Args:
        stored: Pixels as they lie in the file, each of ``factor`` x ``factor`` original ones.
        factor: One of :data:`FACTORS`.
        stored_size: Height and width of the original image as it lies in the file.
        turn: What brings it upright.
    """
    height, width = stored_size[::-1] if turn.transposed else stored_size
    upright = turned(stored, turn)
    rows, columns = upright.shape[:2]
    # The last pixel of the file may reach beyond the image; backwards it becomes the first.
    left = columns - width / factor if turn.columns_backwards else 0
    top = rows - height / factor if turn.rows_backwards else 0
    return View(upright, translation(left, top) @ scale(1 / factor, 1 / factor), original_size=(height, width))


def resize_original_part(
    pixels: Pixels,
    affine: Affine,
    rectangle: tuple[int, int, int, int],
    size: tuple[int, int],
    interpolation: Interpolation,
) -> Pixels:
    """Make a rectangle of the original image an image of this height and width (antialiased), from reduced pixels.

    Args:
        pixels: Reduced, H W 3.
        affine: From original pixels to those.
        rectangle: Left, top, right and bottom in original pixels; it may cut through reduced ones.
        size: Height and width of the result.
        interpolation: How pixels are resampled.
    """
    (left, top), (right, bottom) = map_points(
        np.array([rectangle[:2], rectangle[2:]], dtype=np.float64), affine
    ).tolist()
    mode = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(pixels).resize(size[::-1], mode, box=(left, top, right, bottom)))
