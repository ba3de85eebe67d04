"""How an image on disk becomes the numbers that a network was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Channels = tuple[float, float, float]
Interpolation = Literal["bilinear", "bicubic"]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
WHOLE: Literal["whole"] = "whole"
"""In place of a crop share: the whole image is resized to the square."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to pixels on their way into a network. The defaults are assumed where nobody says anything else."""

    mean: Channels = IMAGENET_MEAN
    """Subtracted from pixels in [0, 1]; red, green, blue."""
    std: Channels = IMAGENET_STD
    """Divides them."""
    crop_share: float | Literal["whole"] = WHOLE
    """Side of the centre crop over the shorter side of the resized image, or the whole image."""
    interpolation: Interpolation = "bicubic"
    """How pixels are resampled in evaluation."""
    train_interpolation: Interpolation = "bicubic"
    """How pixels are resampled in training."""


def resized_size(size: tuple[int, int], share: float | Literal["whole"]) -> tuple[int, int] | None:
    """Height and width of a resized image of which a crop keeps a share; None where the whole image is kept.

    Rounded down as timm does, but a share that was computed as crop over side gives that side again, whatever the
    division lost.
    """
    if share == WHOLE:
        return None
    height, width = (math.floor(side / share + 1e-6) for side in size)
    return height, width
