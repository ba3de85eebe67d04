"""The instances of a bag with most attention, as a sheet of small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vision_train.report.bags.attention_values import attention_values
from vision_train.report.drawing import BACKDROP, INK, MUTED, PAPER, ends, fitted, shortened
from vision_train.report.fonts import font
from vision_train.report.formats import format_number

SIDE = 176
"""Square that each tile is fitted into, in pixels."""
COLUMNS, FEWEST_COLUMNS = 5, 3
"""Most tiles side by side; the sheet is at least as wide as the second number of them, to hold its title."""
MARGIN, GAP, LINE, HEADER = 24, 16, 20, 64
TITLE_SIZE, TEXT_SIZE = 19, 13
FRAME = "#c9ced6"

Pixels = NDArray[np.uint8]


def contact_sheet(title: str, tiles: Sequence[Pixels], captions: Sequence[str]) -> Pixels:
    """Put tiles in rows, in the order given.

    Small tiles are enlarged by a whole factor with sharp pixels, large ones shrunk with antialiasing; the aspect ratio
    stays. Titles and captions too long for their place are shortened.

    Args:
        title: Heads the sheet, such as the slide's id and the branch.
        tiles: At least one, each H W 3 of any size.
        captions: Of each tile; of several lines the first is emphasised.

    Returns:
        H W 3.

    Raises:
        ValueError: No tiles, or not as many captions.
    """
    if not tiles or len(tiles) != len(captions):
        raise ValueError(f"a sheet needs tiles and a caption of each, got {len(tiles)} and {len(captions)}")
    rows = math.ceil(len(tiles) / COLUMNS)
    columns = math.ceil(len(tiles) / rows)
    row = SIDE + GAP + LINE * max(len(caption.splitlines()) for caption in captions)
    width = 2 * MARGIN + max(columns, FEWEST_COLUMNS) * (SIDE + GAP) - GAP
    canvas = Image.new("RGB", (width, HEADER + rows * row + MARGIN - GAP // 2), PAPER)
    draw = ImageDraw.Draw(canvas)
    face = font(TITLE_SIZE, title, bold=True)
    draw.text((MARGIN, 22), shortened(title, face, width - 2 * MARGIN, ends), fill=INK, font=face)
    for index, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left, top = MARGIN + index % columns * (SIDE + GAP), HEADER + index // columns * row
        _draw_tile(canvas, draw, tile, caption, left, top)
    return np.asarray(canvas)


def instance_captions(
    attention: NDArray[np.floating], instances: Sequence[int] | NDArray[np.intp], coords: NDArray[np.integer] | None
) -> list[str]:
    """Captions of the instances with most attention: rank, attention and place.

    Args:
        attention: N, of the whole bag.
        instances: Indices of those with most attention, most first.
        coords: N 2, x and y in pixels of level 0; without, the place is left out.
    """
    values = attention_values(attention)
    captions = []
    for rank, index in enumerate(instances, start=1):
        lines = [f"rank {rank}", f"attention {format_number(float(values[index]))}"]
        if coords is not None:
            x, y = coords[index]
            lines.append(f"x {x}, y {y}")
        captions.append("\n".join(lines))
    return captions


def _draw_tile(canvas: Image.Image, draw: ImageDraw.ImageDraw, tile: Pixels, caption: str, left: int, top: int) -> None:
    picture = fitted(Image.fromarray(tile), SIDE, SIDE)
    # A frame, or a tile of empty glass would be lost on the paper.
    draw.rectangle((left - 1, top - 1, left + SIDE, top + SIDE), fill=BACKDROP, outline=FRAME)
    canvas.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
    for number, line in enumerate(caption.splitlines()):
        face = font(TEXT_SIZE, bold=number == 0)
        ink = MUTED if number else INK
        place = left, top + SIDE + 5 + LINE * number
        draw.text(place, shortened(line, face, SIDE, ends), fill=ink, font=face)
