"""Discs with their diameters: a number to read off an image, learnt on a processor within a minute.

A picture of 48 x 48 pixels holds one disc, lighter or darker than its background, and a square that means nothing. All
is drawn from fixed seeds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import RandomState

from vision_train.data.sample import ImageSample
from vision_train.data.toy.folder import drawn_samples, write_with_table
from vision_train.data.toy.shapes import shape_mask

COUNTS = {"train": 600, "val": 150, "test": 150}
"""Pictures of each split."""
SIDE = 48
SMALLEST, LARGEST = 8, 40
"""Diameter of a disc, in pixels."""
DIAMETER = "diameter"
TABLE_NAME = "diameters.csv"


@cache
def discs_samples() -> tuple[ImageSample, ...]:
    """Draw all pictures (48 48 3), with ids ``discs/train_0000`` and so on; truths are tuples of one number."""
    return drawn_samples(COUNTS, _sample)


def _sample(split: str, number: int, random: RandomState) -> ImageSample:
    diameter = random.randint(SMALLEST, LARGEST + 1)
    ground = random.uniform(0.3, 0.7)
    pixels = np.full((SIDE, SIDE, 3), ground)
    side = random.randint(6, 13)
    left, top = (random.randint(0, SIDE - side + 1) for _ in range(2))
    pixels[shape_mask("square", left, top, side, SIDE)] = ground + random.choice([-0.15, 0.15])
    left, top = (random.randint(0, SIDE - diameter + 1) for _ in range(2))
    pixels[shape_mask("circle", left, top, diameter, SIDE)] = ground + random.choice([-0.25, 0.25])
    pixels += 0.05 * random.standard_normal(pixels.shape)
    image = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return ImageSample(f"discs/{split}_{number:04d}", image, (float(diameter),), split)


def make_discs(folder: Path) -> dict[str, int]:
    """Write the pictures as ``folder/images/*.png`` and a csv with the columns path, diameter and split.

    Args:
        folder: Is created; must be empty where it exists.

    Returns:
        Images written to each split.

    Raises:
        UserError: ``folder`` is not an empty folder, or cannot be written.
    """
    return write_with_table(discs_samples(), folder, TABLE_NAME, DIAMETER, lambda numbers: f"{numbers[0]:g}")
