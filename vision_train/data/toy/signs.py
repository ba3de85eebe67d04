"""Signs on a panel: each picture holds any of five, in any colour, so that it bears several labels at once or none.

A picture of 48 x 48 pixels has nine places. Each sign is there or not by a chance of its own, rare ones too; its place,
size and colour say nothing of which it is. All is drawn from fixed seeds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from vision_train.data.kind import BETWEEN_LABELS
from vision_train.data.label_sets import LabelSet
from vision_train.data.sample import ImageSample
from vision_train.data.toy.folder import drawn_samples, write_with_table
from vision_train.data.toy.shapes import shape_mask

COUNTS = {"train": 1000, "val": 250, "test": 250}
"""Pictures of each split."""
SIDE, CELLS = 48, 3
SHARES = {"circle": 0.45, "square": 0.4, "triangle": 0.3, "cross": 0.2, "ring": 0.1}
"""Share of the pictures that hold each sign."""
SMALLEST, LARGEST = 9, 14
"""Width and height of a sign, in pixels."""
NOISE, GRAIN = 0.15, 0.05
"""Deviation of a sign's colour and of single pixels, in [0, 1]."""


@cache
def signs_samples() -> tuple[ImageSample, ...]:
    """Draw all pictures (48 48 3), with ids ``signs/train_0000`` and so on."""
    return drawn_samples(COUNTS, _sample)


def _sample(split: str, number: int, random: RandomState) -> ImageSample:
    present = tuple(sorted(name for name, share in SHARES.items() if random.random_sample() < share))
    pixels = np.full((SIDE, SIDE, 3), random.uniform(0.3, 0.7))
    cell = SIDE // CELLS
    for name, place in zip(present, random.permutation(CELLS**2), strict=False):
        side = random.randint(SMALLEST, LARGEST + 1)
        left, top = (cell * at + random.randint(0, cell - side + 1) for at in divmod(int(place), CELLS))
        bright = random.uniform(0.0, 0.2) if random.random_sample() < 0.5 else random.uniform(0.8, 1.0)
        pixels[sign_mask(name, left, top, side)] = bright + NOISE * random.standard_normal(3)
    pixels += GRAIN * random.standard_normal(pixels.shape)
    image = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return ImageSample(f"signs/{split}_{number:04d}", image, LabelSet(present), split)


def sign_mask(name: str, left: int, top: int, side: int) -> NDArray[np.bool_]:
    """The pixels (48 48) of a sign that fills a square of this side."""
    if name == "ring":
        inner = max(side // 3, 1)
        hole = shape_mask("circle", left + inner, top + inner, side - 2 * inner, SIDE)
        return shape_mask("circle", left, top, side, SIDE) & ~hole
    if name == "cross":
        y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
        across, down = np.abs((x - left) / side - 0.5), np.abs((y - top) / side - 0.5)
        return shape_mask("square", left, top, side, SIDE) & (np.minimum(across, down) <= 1 / 6)
    return shape_mask(name, left, top, side, SIDE)


def make_signs(folder: Path) -> dict[str, int]:
    """Write the pictures as ``folder/images/*.png`` and ``folder/labels.csv`` with the columns path, label and split.

    Args:
        folder: Is created; must be empty where it exists.

    Returns:
        Images written to each split.

    Raises:
        UserError: ``folder`` is not an empty folder, or cannot be written.
    """
    return write_with_table(
        signs_samples(), folder, "labels.csv", "label", lambda held: BETWEEN_LABELS.join(held.present)
    )
