"""What augmentation and mixing make of images, one image a row: the original, the network's view and its label."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vision_train.report.drawing import BACKDROP, INK, MUTED, PAPER, ending, ends, fitted, font, shortened

OWN, PARTNER = (35, 96, 197), (232, 139, 26)
"""Colours of an image's own pixels and of its partner's."""
FRAME = "#c9ced6"
SIDE = 224
"""Square that each picture is fitted into, in pixels: the usual input is shown as it is."""
TEXT_WIDTH = 344
"""Width of the column that says how the label is shared, in pixels."""
MARGIN, GAP, LINE, BAR = 24, 16, 20, 8
HEADER, HEADINGS, NOTE = 64, 34, 22
ROW = SIDE + 2 * LINE + 34
WITH = "with "
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 19, 14, 13
WIDTH = 2 * MARGIN + 4 * (SIDE + GAP) + TEXT_WIDTH
"""Width of the whole, in pixels."""
COLUMNS = ("original", "augmented", "as the network sees it", "whose pixels", "label")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledImage:
    """An image by its name and that of its class."""

    name: str
    label: str


@dataclass(frozen=True)
class PreviewRow:
    """One image on its way into the network.

    Attributes:
        image: Name and class.
        partner: Name and class of the image it was mixed with; None if it was not.
        mixing: What was done to it, such as ``MaskMix``.
        original: H W 3, as on disk.
        augmented: S S 3.
        mixed: S S 3.
        own: S S, in [0, 1]: how much of each pixel is the image's own.
        shares: Way of sharing the label -> the share that stays with the image's own class; empty if it was not mixed.
    """

    image: LabelledImage
    partner: LabelledImage | None
    mixing: str
    original: Pixels
    augmented: Pixels
    mixed: Pixels
    own: NDArray[np.float32]
    shares: dict[str, float]


def render_preview(title: str, subtitle: str, rows: Sequence[PreviewRow], notes: Sequence[str] = ()) -> Image.Image:
    """Draw the rows below one another.

    Small pictures are enlarged by a whole factor with sharp pixels, large ones shrunk, each within a square of the same
    size; names too long for their place are shortened.

    Args:
        title: Heads the picture, such as the recipe's name.
        subtitle: One line below it.
        rows: At least one.
        notes: Lines below the rows.

    Returns:
        An RGB image of constant width.
    """
    below = GAP + NOTE * len(notes) if notes else 0
    canvas = Image.new("RGB", (WIDTH, HEADER + HEADINGS + ROW * len(rows) + below + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(canvas)
    room = WIDTH - 2 * MARGIN
    _line(draw, (MARGIN, 18), title, room, size=TITLE_SIZE, bold=True, keep=ending)
    _line(draw, (MARGIN, 44), subtitle, room, ink=MUTED)
    for column, heading in enumerate(COLUMNS):
        draw.text((_left(column), HEADER + 8), heading, fill=INK, font=font(SMALL_SIZE, bold=True))
    for number, row in enumerate(rows):
        _draw_row(canvas, draw, row, HEADER + HEADINGS + ROW * number)
    top = HEADER + HEADINGS + ROW * len(rows) + GAP // 2
    for number, note in enumerate(notes):
        _line(draw, (MARGIN, top + NOTE * number), note, room, ink=MUTED)
    return canvas


def _left(column: int) -> int:
    return MARGIN + column * (SIDE + GAP)


def _draw_row(canvas: Image.Image, draw: ImageDraw.ImageDraw, row: PreviewRow, top: int) -> None:
    seen = fitted(Image.fromarray(row.mixed), SIDE, SIDE)
    whose = Image.fromarray(_in_two_colours(row.own)).resize(seen.size, Image.Resampling.NEAREST)
    pictures = [
        fitted(Image.fromarray(row.original), SIDE, SIDE),
        fitted(Image.fromarray(row.augmented), SIDE, SIDE),
        seen,
        whose,
    ]
    for column, picture in enumerate(pictures):
        left = _left(column)
        # A frame, or a white picture would be lost on the paper.
        draw.rectangle((left - 1, top - 1, left + SIDE, top + SIDE), fill=BACKDROP, outline=FRAME)
        canvas.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
    below = top + SIDE + 5
    _line(draw, (_left(0), below), row.image.name, SIDE, keep=ending)
    size = _size(row.original)
    room = SIDE - font(SMALL_SIZE).getlength(size) - 12
    _line(draw, (_left(0), below + LINE), row.image.label, room, ink=MUTED)
    draw.text((_left(0) + SIDE, below + LINE), size, fill=MUTED, font=font(SMALL_SIZE), anchor="ra")
    _line(draw, (_left(1), below), _size(row.augmented), SIDE, ink=MUTED)
    _line(draw, (_left(3), below), _own_share(row.own), SIDE, ink=MUTED)
    _draw_label(draw, row, _left(4), top)


def _draw_label(draw: ImageDraw.ImageDraw, row: PreviewRow, left: int, top: int) -> None:
    """What was done, with whom, and whose the label is by how much."""
    _line(draw, (left, top), row.mixing, TEXT_WIDTH, size=TEXT_SIZE, bold=True)
    sides = [(row.image.label, OWN)]
    if row.partner is not None:
        sides.append((row.partner.label, PARTNER))
        indent = math.ceil(font(SMALL_SIZE).getlength(WITH))
        draw.text((left, top + 22), WITH, fill=MUTED, font=font(SMALL_SIZE))
        _line(draw, (left + indent, top + 22), row.partner.name, TEXT_WIDTH - indent, ink=MUTED, keep=ending)
    top += 54
    for label, colour in sides:
        draw.rounded_rectangle((left, top + 2, left + 12, top + 14), radius=3, fill=colour)
        _line(draw, (left + 20, top), label, TEXT_WIDTH - 20, size=TEXT_SIZE)
        top += 24
    right = left + TEXT_WIDTH
    for rule, share in row.shares.items() if row.partner is not None else ():
        top += 8
        draw.text((left, top), rule, fill=MUTED, font=font(SMALL_SIZE))
        draw.text((right, top), f"{share:.2f} + {1 - share:.2f}", fill=INK, font=font(SMALL_SIZE), anchor="ra")
        top += LINE
        border = left + round(TEXT_WIDTH * share)
        for start, end, colour in ((left, border, OWN), (border, right, PARTNER)):
            if end > start:
                draw.rectangle((start, top, end - 1, top + BAR - 1), fill=colour)
        top += BAR


def _line(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    room: float,
    *,
    size: int = SMALL_SIZE,
    bold: bool = False,
    ink: str = INK,
    keep: Callable[[str, int], str] = ends,
) -> None:
    """Write one line, shortened to its room."""
    face = font(size, bold=bold)
    draw.text(place, shortened(text, face, room, keep), fill=ink, font=face)


def _size(pixels: Pixels) -> str:
    height, width = pixels.shape[:2]
    return f"{width} × {height}"


def _own_share(own: NDArray[np.float32]) -> str:
    share = f"{100 * own.mean():.0f} %"
    blended = own.min() > 0 and own.max() < 1
    return f"each pixel {share} its own" if blended else f"{share} its own"


def _in_two_colours(own: NDArray[np.float32]) -> Pixels:
    """H W in [0, 1] -> H W 3, between the two colours as the pixel's own share says."""
    share = own[..., None]
    return np.rint(share * np.array(OWN) + (1 - share) * np.array(PARTNER)).astype(np.uint8)
