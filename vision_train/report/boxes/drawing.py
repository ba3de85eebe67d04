"""Boxes with captions on the pixels of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vision_train.previews import Pixels
from vision_train.report.drawing import ends, fitted, shortened
from vision_train.report.fonts import font

Colour = tuple[int, int, int]
Corners = NDArray[np.float64]
"""n x 4: left, top, right, bottom in pixels."""
Rectangle = tuple[int, int, int, int]
"""left, top, right, bottom in whole pixels, the last two outside of it."""

COLOURS: tuple[Colour, ...] = (
    *((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167)),
    *((240, 228, 66), (213, 94, 0), (0, 114, 178)),
)
"""The palette of Okabe and Ito without black: told apart in every common form of colour blindness."""
CASING: Colour = (20, 22, 26)
"""Thin dark lines on both sides of a coloured one, which without them is lost on pixels of its own colour."""
CROWDED = 0.1
"""Where captions would cover more than this share of the picture, lines are thinner and bare, and only boxes as wide as
their caption have one."""
CHARACTERS = 14
"""A usual caption, a name and a score, has this many characters."""
CASED = 16
"""Boxes with a side shorter than this, in pixels, are bare too: dark lines would cover what is in them."""
EQUAL_CONTRAST = 0.18
"""Luminance above which dark text has more contrast than white text."""
NARROWEST = 3
"""Captions are left out of pictures that are narrower than so many heights of a line."""
PADDING = 3
"""Pixels on the left and right of a caption."""


def colour_of(class_id: int) -> Colour:
    """The colour of a class in all pictures; classes beyond the seventh begin again with the first colour."""
    return COLOURS[class_id % len(COLOURS)]


def fit_with_boxes(pixels: Pixels, boxes: Corners, width: int, height: int) -> tuple[Pixels, Corners]:
    """Pixels and boxes at the largest size within a frame, as :func:`vision_train.report.drawing.fitted` chooses it.

    Args:
        pixels: H W 3.
        boxes: n x 4, in these pixels.
        width: Largest width of the result.
        height: Largest height of the result.
    """
    image = fitted(Image.fromarray(pixels), width, height)
    across, down = image.width / pixels.shape[1], image.height / pixels.shape[0]
    return np.asarray(image), np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * (across, down, across, down)


def draw_boxes(
    pixels: Pixels,
    boxes: Corners,
    captions: Sequence[str],
    colours: Sequence[Colour],
    *,
    dashed: Sequence[bool] | None = None,
) -> Pixels:
    """Draw boxes over an image, the first on top, each with its caption where there is room for it.

    Lines and text grow with the picture. A caption stands above its box, else in, below or beside it, and never over
    another caption; one without a place is left out, those of the last boxes first.

    Args:
        pixels: H W 3, as large as it is to be seen; it is not changed.
        boxes: n x 4, in these pixels. Parts beyond the image are cut off.
        captions: n; an empty one is not drawn.
        colours: n.
        dashed: n, whether a box has dashed lines; None for solid ones.

    Returns:
        H W 3.
    """
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    side = math.sqrt(image.width * image.height)
    size = min(max(round(side / 60), 11), 22)
    crowded = len(boxes) * CHARACTERS * size**2 / 2 > CROWDED * side**2
    line = min(max(round(side / 400), 2), 5) - crowded
    shown = [_on_image(box, image.size) for box in np.asarray(boxes, dtype=np.float64).reshape(-1, 4)]
    styles = dashed if dashed is not None else [False] * len(shown)
    for box, colour, is_dashed in reversed(list(zip(shown, colours, styles, strict=True))):
        if box is not None:
            _draw_box(draw, box, colour, line, cased=not crowded, dashed=is_dashed)
    taken: list[Rectangle] = []
    for box, caption, colour in zip(shown, captions, colours, strict=True):
        if box is not None and caption:
            _draw_caption(draw, image.size, box, caption, colour, size, taken, crowded=crowded)
    return np.asarray(image)


def _on_image(box: NDArray[np.float64], size: tuple[int, int]) -> Rectangle | None:
    """The part of a box that is on the image, at least a pixel; None of one that lies beside it or is no numbers."""
    width, height = size
    if not np.isfinite(box).all() or box[2] <= 0 or box[3] <= 0 or box[0] >= width or box[1] >= height:
        return None
    left, top = min(max(round(box[0]), 0), width - 1), min(max(round(box[1]), 0), height - 1)
    return left, top, min(max(round(box[2]), left + 1), width), min(max(round(box[3]), top + 1), height)


def _draw_box(
    draw: ImageDraw.ImageDraw, box: Rectangle, colour: Colour, width: int, *, cased: bool, dashed: bool
) -> None:
    left, top, right, bottom = box
    shorter = min(right - left, bottom - top)
    width = min(width, max(1, shorter // 6))
    if cased and shorter >= CASED:
        draw.rectangle((left - 1, top - 1, right, bottom), outline=CASING, width=width + 2)
    if not dashed:
        draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=width)
        return
    dash = 4 * width
    for start in range(left, right, 2 * dash):
        end = min(start + dash, right) - 1
        draw.rectangle((start, top, end, top + width - 1), fill=colour)
        draw.rectangle((start, bottom - width, end, bottom - 1), fill=colour)
    for start in range(top, bottom, 2 * dash):
        end = min(start + dash, bottom) - 1
        draw.rectangle((left, start, left + width - 1, end), fill=colour)
        draw.rectangle((right - width, start, right - 1, end), fill=colour)


def _draw_caption(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: Rectangle,
    caption: str,
    colour: Colour,
    text_size: int,
    taken: list[Rectangle],
    *,
    crowded: bool,
) -> None:
    """Write a caption on a ground of the colour, where it covers none of the places that are taken."""
    if size[0] < NARROWEST * text_size:
        return
    face = font(text_size, caption)
    text = shortened(caption, face, size[0] - 2 * PADDING, ends)
    width, height = round(face.getlength(text)) + 2 * PADDING, text_size + 4
    if crowded and width > box[2] - box[0]:
        return
    place = next((each for each in _places(box, width, height, size) if _is_free(each, taken)), None)
    if place is None:
        return
    taken.append(place)
    left, top, right, bottom = place
    draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
    ink = CASING if _luminance(colour) > EQUAL_CONTRAST else (255, 255, 255)
    draw.text((left + PADDING, (top + bottom) / 2), text, fill=ink, font=face, anchor="lm")


def _places(box: Rectangle, width: int, height: int, size: tuple[int, int]) -> list[Rectangle]:
    """Where a caption may stand, the best first: above its box, within its top, below it, beside it."""
    left, top, right, bottom = box
    columns = dict.fromkeys(min(max(start, 0), size[0] - width) for start in (left, right - width))
    rows = [top - height, *([top] if bottom - top >= 2 * height else []), bottom]
    corners = [(column, row) for row in rows for column in columns]
    corners += [(column, min(top, size[1] - height)) for column in (right, left - width)]
    return [
        (column, row, column + width, row + height)
        for column, row in corners
        if row >= 0 and row + height <= size[1] and column >= 0 and column + width <= size[0]
    ]


def _is_free(place: Rectangle, taken: Sequence[Rectangle]) -> bool:
    left, top, right, bottom = place
    return all(right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top for other in taken)


def _luminance(colour: Colour) -> float:
    """Relative luminance as WCAG defines it, in [0, 1]."""
    levels = [level / 255 for level in colour]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
