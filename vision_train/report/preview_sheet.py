"""Training images on their way into the network, one a row: the original, the network's view and its label."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from PIL import Image, ImageDraw

from vision_train.previews import OWN, PARTNER, LabelPanel, Pixels, Preview, PreviewRow
from vision_train.report.drawing import BACKDROP, INK, MUTED, PAPER, ending, ends, fitted, shortened
from vision_train.report.fonts import font

FRAME = "#c9ced6"
SIDE = 224
"""Square that each picture is fitted into, in pixels: the usual input is shown as it is."""
Fit = Callable[[PreviewRow, str, Pixels, int], Image.Image]
"""Takes a row, the heading of a picture, its pixels and a side; brings the picture into a square of that side."""
TEXT_WIDTH = 344
"""Width of the column that says how the label is shared, in pixels."""
MARGIN, GAP, LINE, BAR = 24, 16, 20, 8
HEADER, HEADINGS, NOTE = 64, 34, 22
BELOW = 2 * LINE + 34
"""Height of what stands below the pictures of a row, up to the next one."""
WITH = "with "
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 19, 14, 13
ORIGINAL, LABEL = "original", "label"
"""Headings of the first column, and of the last where rows share their labels."""


def fit_bare(row: PreviewRow, heading: str, pixels: Pixels, side: int) -> Image.Image:
    """A picture with nothing drawn over it."""
    return fitted(Image.fromarray(pixels), side, side)


def render_preview(
    title: str, preview: Preview, originals: Mapping[str, Pixels], *, side: int = SIDE, fit: Fit = fit_bare
) -> Image.Image:
    """Draw the rows below one another.

    Small pictures are enlarged by a whole factor with sharp pixels, large ones shrunk, each within a square of the same
    size; names too long for their place are shortened.

    Args:
        title: Heads the picture, such as the recipe's name.
        preview: At least one row.
        originals: Id of each row -> H W 3, as on disk.
        side: Square that each picture is fitted into, in pixels.
        fit: Fits one, and draws over it.
    """
    rows, notes = preview.rows, preview.notes
    headings = [ORIGINAL, *dict.fromkeys(heading for row in rows for heading in row.pictures)]
    panel = any(row.panel for row in rows)
    width = 2 * MARGIN + len(headings) * (side + GAP) - GAP + (GAP + TEXT_WIDTH if panel else 0)
    below = GAP + NOTE * len(notes) if notes else 0
    canvas = Image.new("RGB", (width, HEADER + HEADINGS + (side + BELOW) * len(rows) + below + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(canvas)
    room = width - 2 * MARGIN
    _line(draw, (MARGIN, 18), title, room, size=TITLE_SIZE, bold=True, keep=ending)
    _line(draw, (MARGIN, 44), preview.summary, room, ink=MUTED)
    for column, heading in enumerate([*headings, *([LABEL] if panel else [])]):
        draw.text((_left(column, side), HEADER + 8), heading, fill=INK, font=font(SMALL_SIZE, bold=True))
    for number, row in enumerate(rows):
        top = HEADER + HEADINGS + (side + BELOW) * number
        pictures = {ORIGINAL: originals[row.id], **row.pictures}
        fitted_pictures = {heading: fit(row, heading, pixels, side) for heading, pixels in pictures.items()}
        _draw_row(canvas, row, fitted_pictures, headings, top, side)
        _write_below(draw, row, originals[row.id].shape[:2], top + side + 5, side)
        if row.panel:
            _draw_panel(draw, row.panel, _left(len(headings), side), top)
    top = HEADER + HEADINGS + (side + BELOW) * len(rows) + GAP // 2
    for number, note in enumerate(notes):
        _line(draw, (MARGIN, top + NOTE * number), note, room, ink=MUTED)
    return canvas


def _left(column: int, side: int = SIDE) -> int:
    return MARGIN + column * (side + GAP)


def _draw_row(
    canvas: Image.Image,
    row: PreviewRow,
    pictures: Mapping[str, Image.Image],
    headings: Sequence[str],
    top: int,
    side: int,
) -> None:
    draw = ImageDraw.Draw(canvas)
    for column, heading in enumerate(headings):
        left = _left(column, side)
        # A frame, or a white picture would be lost on the paper.
        draw.rectangle((left - 1, top - 1, left + side, top + side), fill=BACKDROP, outline=FRAME)
        if picture := pictures.get(heading):
            canvas.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
        if heading in row.captions:
            _line(draw, (left, top + side + 5), row.captions[heading], side, ink=MUTED)


def _write_below(draw: ImageDraw.ImageDraw, row: PreviewRow, size: Sequence[int], top: int, side: int) -> None:
    """Name and size of the original, and its label where rows share theirs."""
    _line(draw, (_left(0), top), row.id, side, keep=ending)
    written = f"{size[1]} × {size[0]}"
    room = side - font(SMALL_SIZE).getlength(written) - 12
    if row.panel:
        _line(draw, (_left(0), top + LINE), row.panel.label, room, ink=MUTED)
    draw.text((_left(0) + side, top + LINE), written, fill=MUTED, font=font(SMALL_SIZE), anchor="ra")


def _draw_panel(draw: ImageDraw.ImageDraw, panel: LabelPanel, left: int, top: int) -> None:
    """What was done, with which other image, and how much of the label each of the two has."""
    _line(draw, (left, top), panel.title, TEXT_WIDTH, size=TEXT_SIZE, bold=True)
    sides = [(panel.label, OWN)]
    if panel.partner:
        sides.append((panel.partner_label, PARTNER))
        indent = math.ceil(font(SMALL_SIZE).getlength(WITH))
        draw.text((left, top + 22), WITH, fill=MUTED, font=font(SMALL_SIZE))
        _line(draw, (left + indent, top + 22), panel.partner, TEXT_WIDTH - indent, ink=MUTED, keep=ending)
    top += 54
    for label, colour in sides:
        draw.rounded_rectangle((left, top + 2, left + 12, top + 14), radius=3, fill=colour)
        _line(draw, (left + 20, top), label, TEXT_WIDTH - 20, size=TEXT_SIZE)
        top += 24
    right = left + TEXT_WIDTH
    for rule, share in panel.shares.items():
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
    face = font(size, text, bold=bold)
    draw.text(place, shortened(text, face, room, keep), fill=ink, font=face)
