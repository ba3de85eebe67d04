"""Cutting a large image into square tiles, and leaving out those that show background.

This module is made for ordinary images, photographs among them, where black and grey are content; saturation alone
would take both for background. Use TRIDENT for slides: it finds tissue at the right magnification.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_train.data.decode import BadImageError

Pixels = NDArray[np.uint8]
Corners = NDArray[np.int64]
"""x and y of the upper left corner of each tile in pixels: N 2."""

LEAST_CONTENT = 0.25
"""Least share of a tile that content must fill."""
MASK_SIDE = 16
"""Approximate side of a tile in the thumbnail, in pixels."""
BRIGHT = 0.8
"""Value of the largest channel, 0 to 1, from which a pixel may be background."""
PALE = (0.05, 0.2)
"""Bounds of the saturation, 0 to 1, up to which a bright pixel is background. Otsu's threshold lies between them for
tissue on glass. On glass alone it would divide noise, and in a photograph colours."""


def select_tiles(pixels: Pixels, tile: int, *, keep_background: bool = False) -> Corners:
    """Corners of the tiles with content, row by row from the upper left corner.

    The grid covers the image; tiles at the right and the lower edge reach beyond it. A tile is taken if content fills
    at least a quarter of it. Pixels beyond the edge and background are no content.

    Background is bright and almost colourless, like paper or the glass of a slide: in a thumbnail, the largest channel
    is at least 0.8 and the saturation at most Otsu's threshold of the image's saturations, clipped to 0.05 to 0.2.

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


def _shares_inside(corners: Corners, width: int, height: int, tile: int) -> NDArray[np.float64]:
    """Share of each tile that lies inside the image: N."""
    sides = np.minimum(corners + tile, [width, height]) - corners
    return sides.prod(axis=1) / tile**2


def _shares_of_content(pixels: Pixels, corners: Corners, tile: int) -> NDArray[np.float64]:
    """Share of content in the part of each tile that lies inside the image: N."""
    # Tiles are shrunk one by one, since a second copy of a large image may not fit into memory.
    factor = max(1, tile // MASK_SIDE)
    thumbnails = [_saturation_and_brightness(pixels[y : y + tile, x : x + tile], factor) for x, y in corners]
    saturations = np.concatenate([saturation for saturation, _ in thumbnails])
    otsu, _ = cv2.threshold(saturations, 0, 255, cv2.THRESH_OTSU)
    threshold = np.clip(otsu / 255, *PALE) * 255
    return np.array(
        [np.mean((saturation > threshold) | (brightness < BRIGHT * 255)) for saturation, brightness in thumbnails]
    )


def _saturation_and_brightness(part: Pixels, factor: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Saturation and brightness of each pixel of a thumbnail, 0 to 255."""
    _, saturation, brightness = Image.fromarray(part).reduce(factor).convert("HSV").split()
    return np.asarray(saturation).ravel(), np.asarray(brightness).ravel()
