"""Scans of digits on one canvas, overlapping, with clutter: a detection benchmark with real pixels.

Scikit-learn's scans are divided as for the digits that come with the installation, so that no scan is in two splits.
Each is enlarged to a size of its own and laid over the canvas as ink. Clutter is pieces of other scans and strokes,
which have no box.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from vision_train.data.toy.digits import digits_samples
from vision_train.data.toy.scenes import Box, Scene, visible_shares

COUNTS = {"train": 500, "val": 150, "test": 150}
"""Pictures of each split."""
SIDE = 96
FEWEST, MOST = 3, 9
"""Digits of a picture."""
SMALLEST, LARGEST = 14, 32
"""Side that a scan is enlarged to, in pixels."""
LEAST_VISIBLE = 0.5
INK = 0.25
"""From this darkness on a pixel belongs to a digit."""
PIECES = 6
"""Pieces of scans that lie about as clutter."""

Ink = NDArray[np.float64]
"""H W, from 0 for paper to 1."""


@cache
def digit_scenes() -> tuple[Scene, ...]:
    """Draw all pictures, once in a process: the phases of a run read them anew, and it takes seconds."""
    pools: dict[str, list[tuple[Ink, str]]] = {split: [] for split in COUNTS}
    for sample in digits_samples():
        pools[str(sample.split)].append((np.asarray(sample.image)[..., 0] / 255, str(sample.truth)))
    return tuple(
        _scene(f"{split}_{number:04d}", split, pools[split], RandomState(20_000 * offset + number))
        for offset, (split, count) in enumerate(COUNTS.items(), start=1)
        for number in range(count)
    )


def _scene(name: str, split: str, pool: Sequence[tuple[Ink, str]], random: RandomState) -> Scene:
    canvas = _clutter(pool, random)
    layers: list[Ink] = []
    labels: list[str] = []
    wanted = random.randint(FEWEST, MOST + 1)
    while len(layers) < wanted:
        scan, label = pool[random.randint(len(pool))]
        side = random.randint(SMALLEST, LARGEST + 1)
        layer = _laid(_enlarged(scan, side), random.randint(0, SIDE - side + 1), random.randint(0, SIDE - side + 1))
        if min(visible_shares([each > INK for each in [*layers, layer]])) >= LEAST_VISIBLE:
            layers.append(layer)
            labels.append(label)
    for layer in layers:
        canvas = canvas * (1 - layer) + layer * random.uniform(0.6, 1)
    tint = random.uniform(0.75, 1, 3)
    grain = 0.03 * random.standard_normal((SIDE, SIDE, 1))
    pixels = ((1 - canvas[..., None]) * tint + grain).clip(0, 1)
    boxes = tuple(_box(layer) for layer in layers)
    return Scene(name, split, np.rint(pixels * 255).astype(np.uint8), boxes, tuple(labels))


def _clutter(pool: Sequence[tuple[Ink, str]], random: RandomState) -> Ink:
    """Pieces of scans that are too small to read, and strokes, in faint ink."""
    canvas = np.zeros((SIDE, SIDE))
    for _ in range(PIECES):
        scan, _label = pool[random.randint(len(pool))]
        top, left = random.randint(0, 5, 2)
        side = random.randint(6, 14)
        piece = _enlarged(scan[top : top + 4, left : left + 4], side)
        layer = _laid(piece, random.randint(0, SIDE - side + 1), random.randint(0, SIDE - side + 1))
        canvas = np.maximum(canvas, layer * random.uniform(0.2, 0.6))
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for _ in range(2):
        angle, distance = random.uniform(0, np.pi), random.uniform(0, SIDE)
        away = np.abs(np.cos(angle) * (x - SIDE / 2) + np.sin(angle) * (y - SIDE / 2) - distance + SIDE / 2)
        canvas = np.maximum(canvas, (away < 1) * random.uniform(0.2, 0.5))
    return canvas


def _enlarged(scan: Ink, side: int) -> Ink:
    """A square scan at another size, between pixels in straight lines."""
    count = len(scan)
    places = ((np.arange(side) + 0.5) * count / side - 0.5).clip(0, count - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, count - 1)
    part = places - low
    rows = scan[low] * (1 - part)[:, None] + scan[high] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, high] * part


def _laid(scan: Ink, left: int, top: int) -> Ink:
    layer = np.zeros((SIDE, SIDE))
    layer[top : top + len(scan), left : left + len(scan)] = scan
    return layer


def _box(layer: Ink) -> Box:
    """Around the ink of a digit, the hidden parts included."""
    rows, columns = (np.flatnonzero((layer > INK).any(axis=axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
