"""Pixels of instances: tiles cut out of an image, and features that are pictures themselves."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

PADDING = 255
"""What lies beyond the edge of an image is white, as what is transparent in it."""
PIXELS = "pixels"
"""Encoder whose features are the square grey pictures themselves, in [0, 1]."""
HOTTEST = 12
"""Instances of a bag that are shown as pictures."""


def cut_tile(pixels: Pixels, x: int, y: int, tile: int) -> Pixels:
    """The pixels of one tile.

    Args:
        pixels: H W 3, the image.
        x: Left edge in pixels of the image.
        y: Upper edge in pixels of the image.
        tile: Side in pixels.

    Returns:
        tile x tile x 3; a view where the tile lies inside the image, else white beyond its edges.
    """
    left, top = max(x, 0), max(y, 0)
    inside = pixels[top : max(y + tile, 0), left : max(x + tile, 0)]
    if inside.shape == (tile, tile, 3):
        return inside
    padded = np.full((tile, tile, 3), PADDING, dtype=np.uint8)
    padded[top - y : top - y + inside.shape[0], left - x : left - x + inside.shape[1]] = inside
    return padded


def pictured_instances(features: Tensor, instances: np.ndarray, encoder: str | None) -> list[Pixels]:
    """Instances of a bag as pictures, where its features are pictures; else none.

    Args:
        features: N D.
        instances: K, which of them.
        encoder: What computed the features.

    Returns:
        K times H W 3, uint8, or nothing.
    """
    side = math.isqrt(features.shape[1])
    if encoder != PIXELS or side * side != features.shape[1]:
        return []
    chosen = features[torch.from_numpy(instances).to(features.device)].float().cpu()
    grey = (chosen.clamp(0, 1) * 255).round().to(torch.uint8).view(-1, side, side, 1)
    return list(grey.expand(-1, -1, -1, 3).numpy())
