"""What stands where on drawn scenes: cells of a grid with colour, shape, size and box, to warm up a visual network.

Such a network names the things of a picture before it is asked about them, as one does that was trained to detect. The
pictures are drawn apart from those of :mod:`vision_train.data.toy.referring`, and nothing is said about them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from vision_train.data.toy.referring import SIDE, draw_things
from vision_train.data.toy.things import COLOURS, SHAPES, SIZES, Thing

STRIDE = 8
"""Width and height of a cell, in pixels."""
GRID = SIDE // STRIDE
NOTHING = -1
"""What stands in a cell that belongs to no thing."""
MOST = 100_000
"""Pictures of one seed."""
_FIRST_SEED = 1_000_000
"""Behind those of the pictures with expressions."""


class Cells(NamedTuple):
    """Pictures with what stands in each cell.

    A cell belongs to the thing whose box covers its middle. Of a low or narrow one that covers none, the row or column
    counts that holds the middle of the box, so that every thing has a cell.
    """

    pixels: NDArray[np.uint8]
    """n 48 48 3."""
    colour: NDArray[np.int64]
    """n 6 6, a place in ``COLOURS``, or :data:`NOTHING`."""
    shape: NDArray[np.int64]
    """n 6 6, a place in ``SHAPES``, or :data:`NOTHING`."""
    size: NDArray[np.int64]
    """n 6 6, a place in ``SIZES``, or :data:`NOTHING`."""
    offsets: NDArray[np.float32]
    """n 6 6 4: how far left, top, right and bottom of the box lie from the middle of the cell, outwards, in cells; 0
    where nothing stands."""


def referring_cells(count: int, seed: int = 0) -> Cells:
    """Draw pictures to warm up on.

    Args:
        count: Their number, at most 100,000.
        seed: Other seeds give other pictures, down to 0.

    Raises:
        ValueError: There are not so many of one seed.
    """
    if not 0 <= count <= MOST:
        raise ValueError(f"{count} pictures asked for; one seed gives up to {MOST:,}")
    pictures, grids = [], []
    for number in range(count):
        pixels, things = draw_things(RandomState(_FIRST_SEED + MOST * seed + number))
        pictures.append(pixels)
        grids.append(_grid(things))
    kinds = np.array([grid[0] for grid in grids], dtype=np.int64).reshape(count, GRID, GRID, 3)
    offsets = np.array([grid[1] for grid in grids], dtype=np.float32).reshape(count, GRID, GRID, 4)
    pixels = np.array(pictures, dtype=np.uint8).reshape(count, SIDE, SIDE, 3)
    return Cells(pixels, kinds[..., 0], kinds[..., 1], kinds[..., 2], offsets)


def _grid(things: tuple[Thing, ...]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Colour, shape and size (6 6 3) and offsets (6 6 4) of what stands in each cell."""
    kinds = np.full((GRID, GRID, 3), NOTHING)
    offsets = np.zeros((GRID, GRID, 4), dtype=np.float32)
    for thing in things:
        kind = COLOURS.index(thing.colour), SHAPES.index(thing.shape), SIZES.index(thing.size)
        x1, y1, x2, y2 = thing.box
        for row in _cells(y1, y2):
            for column in _cells(x1, x2):
                x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
                kinds[row, column] = kind
                offsets[row, column] = np.array([x - x1, y - y1, x2 - x, y2 - y]) / STRIDE
    return kinds, offsets


def _cells(first: float, last: float) -> list[int]:
    """The cells of one axis whose middle lies between two edges, and the one that holds the middle between them."""
    covered = [cell for cell in range(GRID) if first <= (cell + 0.5) * STRIDE < last]
    return covered or [int((first + last) / 2 // STRIDE)]
