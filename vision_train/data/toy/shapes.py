"""Circles, squares and triangles that overlap: a detection benchmark that a processor learns in minutes.

A picture of 64 x 64 pixels holds two to eight shapes; of each at least two fifths can be seen. The colour of a shape is
that of its class, with noise. All is drawn from fixed seeds.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from vision_train.data.toy.scenes import Scene, visible_shares

COUNTS = {"train": 500, "val": 150, "test": 150}
"""Pictures of each split."""
SIDE = 64
LEAST_VISIBLE = 0.4
FEWEST, MOST = 2, 8
"""Shapes of a picture."""
SMALLEST, LARGEST = 10, 26
"""Width and height of a shape, in pixels."""
NOISE = 0.15
"""Deviation of a shape's colour from that of its class, in [0, 1]."""
GRAIN = 0.05
"""Deviation of single pixels of the background."""
COLOURS = {"circle": (0.8, 0.3, 0.3), "square": (0.3, 0.75, 0.35), "triangle": (0.35, 0.4, 0.85)}


@cache
def shapes() -> tuple[Scene, ...]:
    """Draw all pictures, once in a process: the phases of a run read them anew, and it takes about a second."""
    return tuple(
        _scene(f"{split}_{number:04d}", split, RandomState(10_000 * offset + number))
        for offset, (split, count) in enumerate(COUNTS.items(), start=1)
        for number in range(count)
    )


def _scene(name: str, split: str, random: RandomState) -> Scene:
    wanted = random.randint(FEWEST, MOST + 1)
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[str] = []
    masks: list[NDArray[np.bool_]] = []
    while len(masks) < wanted:
        width = height = random.randint(SMALLEST, LARGEST + 1)
        left, top = random.randint(0, SIDE - width + 1), random.randint(0, SIDE - height + 1)
        label = list(COLOURS)[random.randint(len(COLOURS))]
        mask = shape_mask(label, left, top, width, SIDE)
        if min(visible_shares([*masks, mask])) < LEAST_VISIBLE:
            continue
        masks.append(mask)
        labels.append(label)
        boxes.append((float(left), float(top), float(left + width), float(top + height)))
    pixels = random.uniform(0.1, 0.9) + GRAIN * random.standard_normal((SIDE, SIDE, 3))
    for mask, label in zip(masks, labels, strict=True):
        pixels[mask] = np.array(COLOURS[label]) + NOISE * random.standard_normal(3)
    return Scene(name, split, np.rint(pixels.clip(0, 1) * 255).astype(np.uint8), tuple(boxes), tuple(labels))


def shape_mask(label: str, left: int, top: int, side: int, canvas: int) -> NDArray[np.bool_]:
    """The pixels (H W) of a shape that fills a square of this side, on a square canvas."""
    y, x = np.mgrid[0:canvas, 0:canvas] + 0.5
    across, down = (x - left) / side, (y - top) / side  # 0 to 1 inside the square
    inside = (across >= 0) & (across <= 1) & (down >= 0) & (down <= 1)
    if label == "circle":
        inside &= (across - 0.5) ** 2 + (down - 0.5) ** 2 <= 0.25
    elif label == "triangle":
        inside &= np.abs(across - 0.5) <= down / 2
    return inside
