"""Cutting a large image into square tiles, and telling those that show something from background.

Slides are TRIDENT's work: it finds tissue at the right magnification. Here are ordinary images, photographs among them,
where neither black nor a colourless grey may count as background, as both would by saturation alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_train.data.decode import BadImageError

Pixels = NDArray[np.uint8]
Corners = NDArray[np.int64]
"""N 2: x and y of the upper left corner of each tile, in pixels."""

LEAST_CONTENT = 0.25
"""Share of a tile that must show something."""
MASK_SIDE = 16
"""Pixels of the thumbnail along the side of a tile, about."""
BRIGHT = 0.8
"""Largest of the three channels, 0 to 1, from which a pixel may be background."""
PALE = (0.05, 0.2)
"""Least and largest saturation, 0 to 1, up to which a bright pixel may be background. Otsu's threshold lies in between
for tissue on glass; of glass alone it would divide noise, and of a photograph colours."""


def select_tiles(pixels: Pixels, tile: int, *, keep_background: bool = False) -> Corners:
    """The tiles of an image that show something, row by row from the upper left corner.

    The grid covers the image; tiles at the right and the lower edge reach beyond it. A tile is taken where content
    fills at least a quarter of it. What lies beyond the edge is no content, nor is background, unless it is kept.

    Background is bright and almost colourless, as the glass of a slide or paper: in a thumbnail, the largest channel is
    at least 0.8 and the saturation at most Otsu's threshold of the image's saturations, held between 0.05 and 0.2.

    Args:
        pixels: H W 3.
        tile: Side of a tile in pixels.
        keep_background: Count background as content.

    Raises:
        BadImageError: No tile is left.
    """
    height, width = pixels.shape[:2]
    corners = tile_grid(width, height, tile)
    inside = _shares_inside(corners, width, height, tile)
    if inside.max() < LEAST_CONTENT:
        raise BadImageError(f"{width} x {height} pixels fill less than a quarter of a tile; give a smaller --tile")
    content = inside if keep_background else inside * _shares_of_content(pixels, corners, tile)
    selected = corners[content >= LEAST_CONTENT]
    if not len(selected):
        raise BadImageError(f"its tiles ({len(corners)}) show little but background; give --keep-background to keep it")
    return selected


def tile_grid(width: int, height: int, tile: int) -> Corners:
    """Corners of tiles side by side that cover an image, row by row."""
    x, y = np.meshgrid(np.arange(0, width, tile), np.arange(0, height, tile))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def otsu_threshold(values: NDArray[np.uint8]) -> int:
    """The largest value of the lower of two classes, divided so that their means lie furthest apart (Otsu, 1979)."""
    counts = np.bincount(values, minlength=256).astype(np.float64)
    below = counts.cumsum()
    above = below[-1] - below
    sums = (counts * np.arange(256)).cumsum()
    apart = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return int((below * above * apart**2).argmax())


def _shares_inside(corners: Corners, width: int, height: int, tile: int) -> NDArray[np.float64]:
    """N: share of each tile that lies inside the image."""
    sides = np.minimum(corners + tile, [width, height]) - corners
    return sides.prod(axis=1) / tile**2


def _shares_of_content(pixels: Pixels, corners: Corners, tile: int) -> NDArray[np.float64]:
    """N: share of the part of each tile inside the image that is no background."""
    # Shrinking tile by tile needs no second copy of an image that may fill half of the memory.
    factor = max(1, tile // MASK_SIDE)
    thumbnails = [_saturation_and_brightness(pixels[y : y + tile, x : x + tile], factor) for x, y in corners]
    threshold = np.clip(otsu_threshold(np.concatenate([saturation for saturation, _ in thumbnails])) / 255, *PALE) * 255
    return np.array(
        [np.mean((saturation > threshold) | (brightness < BRIGHT * 255)) for saturation, brightness in thumbnails]
    )


def _saturation_and_brightness(part: Pixels, factor: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both of each pixel of a thumbnail, 0 to 255."""
    _, saturation, brightness = Image.fromarray(part).reduce(factor).convert("HSV").split()
    return np.asarray(saturation).ravel(), np.asarray(brightness).ravel()
