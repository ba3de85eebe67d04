"""Where the tiles of a bag lie on a picture of its slide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_train.report.drawing import fitted

LONGEST_SIDE = 1024
"""Longer side of a picture, in pixels, unless told otherwise."""
LARGEST_TILE = 64
"""Largest side of a tile where no thumbnail gives the scale, in pixels; a bag of few tiles stays small."""
EVEN = 4
"""Tiles of at least this many pixels are all drawn as large, where no thumbnail gives the scale."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Thumbnail:
    """A slide as a small picture."""

    pixels: Pixels
    """H W 3: the whole slide, not a part of it."""
    level0_size: tuple[int, int]
    """Width and height of the slide in pixels of level 0."""


@dataclass(frozen=True)
class TileLayout:
    """N tiles as rectangles of a picture's pixels."""

    size: tuple[int, int]
    """Width and height of the picture."""
    boxes: NDArray[np.int64]
    """N 4: left, top, right, bottom, the last two exclusive; without area where a tile lies outside."""
    background: Pixels | None = None
    """H W 3: the slide, of the same size; None where no thumbnail was given."""
    noun: str = "tiles"
    """What to call them: ``tiles``, or ``instances`` without coordinates."""
    notes: tuple[str, ...] = ()
    """Notes on the places, for the reader of the picture."""

    @cached_property
    def coverage(self) -> NDArray[np.float64]:
        """H W: how many tiles lie over each pixel."""
        return self._summed(np.ones(len(self.boxes)))

    def averaged(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Spread values (N) over the tiles: H W, the mean where tiles overlap, NaN where there is none."""
        total = self._summed(np.asarray(values, dtype=np.float64))
        return np.where(self.coverage > 0, total / np.maximum(self.coverage, 1), np.nan)

    def _summed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the values of all tiles over each pixel, in time that does not depend on the size of tiles.

        Each tile is four entries of a table whose cumulative sums in both directions are the picture.
        """
        width, height = self.size
        left, top, right, bottom = self.boxes.T
        corners = np.concatenate([y * (width + 1) + x for y in (top, bottom) for x in (left, right)])
        weights = np.concatenate([values, -values, -values, values])
        table = np.bincount(corners, weights, minlength=(width + 1) * (height + 1))
        return table.reshape(height + 1, width + 1).cumsum(axis=0).cumsum(axis=1)[:-1, :-1]


def lay_out_tiles(
    count: int,
    coords: NDArray[np.integer] | None = None,
    patch_size_level0: int | None = None,
    thumbnail: Thumbnail | None = None,
    longest_side: int = LONGEST_SIDE,
) -> TileLayout:
    """Place the tiles of a bag on its slide, or without a thumbnail on a picture cropped to them.

    Args:
        count: N, at least 1.
        coords: N 2, x and y of each tile's upper left corner in pixels of level 0. Without, instances are laid out in
            reading order on a grid, and a note says that their places mean nothing.
        patch_size_level0: Side of a tile in pixels of level 0; without, the step of the coordinates, as a note says.
        thumbnail: Of the slide. One of more than ``longest_side`` pixels is shrunk, one of less than half as many
            enlarged.
        longest_side: Of the picture, in pixels.

    Raises:
        ValueError: No instances, other numbers of instances and coordinates, coordinates that are not whole numbers, a
            thumbnail of another aspect ratio than the slide or without coordinates, or all tiles outside.
    """
    if count < 1:
        raise ValueError("a bag without instances has no map")
    if coords is None:
        if thumbnail is not None:
            raise ValueError("a bag without coordinates has no place on a thumbnail")
        return _in_reading_order(count, longest_side)
    if coords.shape != (count, 2) or coords.dtype.kind not in "iu":
        raise ValueError(f"{count} instances need as many whole x and y, got {coords.dtype} of shape {coords.shape}")
    corners = coords.astype(np.int64)
    size, notes = _tile_size(corners, patch_size_level0)
    if thumbnail is None:
        return _cropped(corners, size, longest_side, notes)
    return _on_thumbnail(corners, size, thumbnail, longest_side, notes)


def tile_step(coords: NDArray[np.int64]) -> tuple[int, int]:
    """Step of a grid of tiles: the most frequent one between neighbours in a row or column.

    The smallest difference would not do: the pieces of tissue on a slide often have grids of their own.

    Returns:
        The step, and how many neighbours have it: about twice as many as there are tiles on a full grid. Where
        no tiles share a row or a column: the smallest difference in x or in y, and 0. Both 0 if all lie in one place.
    """
    steps = []
    for along, across in ((0, 1), (1, 0)):
        ordered = coords[np.lexsort((coords[:, along], coords[:, across]))]
        gaps = np.diff(ordered, axis=0)
        steps.append(gaps[(gaps[:, across] == 0) & (gaps[:, along] > 0), along])
    if not (found := np.concatenate(steps)).size:
        found = np.concatenate([np.diff(np.unique(axis)) for axis in coords.T])
        return (int(found.min()) if found.size else 0), 0
    values, counts = np.unique(found, return_counts=True)
    return int(values[counts.argmax()]), int(counts.max())


def _tile_size(coords: NDArray[np.int64], given: int | None) -> tuple[int, tuple[str, ...]]:
    """Side of a tile at level 0, and notes on it."""
    step, neighbours = tile_step(coords)
    if given is None:
        if not step:
            return 1, ("The size of tiles at level 0 is not known.",)
        return step, (f"The size of tiles is not known; they are drawn as large as their step, {step} at level 0.",)
    if given < 1:
        raise ValueError(f"patch_size_level0 {given}: must be at least 1")
    if step > given and neighbours > len(coords):
        return given, (f"Tiles of {given} stand {step} apart at level 0: is {given} their size at another level?",)
    return given, ()


def _in_reading_order(count: int, longest_side: int) -> TileLayout:
    columns = math.ceil(math.sqrt(count))
    rows, places = np.divmod(np.arange(count), columns)
    note = "The bag has no coordinates: instances stand in their order in the file, and places mean nothing."
    return _cropped(np.stack([places, rows], axis=1), 1, longest_side, (note,), noun="instances")


def _cropped(
    coords: NDArray[np.int64], size: int, longest_side: int, notes: tuple[str, ...], noun: str = "tiles"
) -> TileLayout:
    corners = coords - coords.min(axis=0)
    extent = corners.max(axis=0) + size
    tile = min(size * longest_side / int(extent.max()), LARGEST_TILE)
    scale = (math.floor(tile) if tile >= EVEN else tile) / size
    boxes = _boxes(corners, size, (scale, scale))
    return TileLayout((int(boxes[:, 2].max()), int(boxes[:, 3].max())), boxes, noun=noun, notes=notes)


def _on_thumbnail(
    coords: NDArray[np.int64], size: int, thumbnail: Thumbnail, longest_side: int, notes: tuple[str, ...]
) -> TileLayout:
    width, height = thumbnail.level0_size
    picture = Image.fromarray(thumbnail.pixels)
    across, down = picture.width / width, picture.height / height
    # A thumbnail's sides are rounded: each may be off by a pixel.
    if across - 1 / width > 1.02 * (down + 1 / height) or down - 1 / height > 1.02 * (across + 1 / width):
        raise ValueError(
            f"the thumbnail of {picture.width} x {picture.height} pixels has not the aspect ratio of the slide, "
            f"{width} x {height} (width x height) at level 0"
        )
    if not longest_side / 2 < max(picture.size) <= longest_side:
        picture = fitted(picture, longest_side, longest_side)
    boxes = np.clip(_boxes(coords, size, (picture.width / width, picture.height / height)), 0, picture.size * 2)
    outside = int(((boxes[:, 0] == boxes[:, 2]) | (boxes[:, 1] == boxes[:, 3])).sum())
    if outside == len(boxes):
        raise ValueError(
            f"all {outside} tiles lie outside of the slide of {width} x {height} pixels; "
            "coordinates and the size of the slide must both be those of level 0"
        )
    if outside:
        notes = (*notes, f"{outside:,} of {len(boxes):,} tiles lie outside of the slide of {width} x {height} pixels.")
    return TileLayout(picture.size, boxes, np.asarray(picture), notes=notes)


def _boxes(corners: NDArray[np.int64], size: int, scale: tuple[float, float]) -> NDArray[np.int64]:
    """N 4. Tiles that touch at level 0 touch here, and each has at least one pixel."""
    start = np.floor(corners * scale + 1e-6).astype(np.int64)
    end = np.floor((corners + size) * np.asarray(scale) + 1e-6).astype(np.int64)
    return np.concatenate([start, np.maximum(end, start + 1)], axis=1)
