"""A picture with the boxes that were found on it, and below it how many of each class."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from PIL import Image, ImageDraw

from vision_train.previews import BoxesOnImage, Pixels, PreviewRow
from vision_train.report.boxes.drawing import colour_of, draw_boxes, fit_with_boxes
from vision_train.report.drawing import BACKDROP, INK, MUTED, PAPER, ending, ends, shortened
from vision_train.report.fonts import font
from vision_train.report.preview_sheet import fit_bare

SMALLEST, ENLARGED = 320, 640
"""Pictures whose sides are no longer than the first are enlarged to sides no longer than the second, in pixels."""
AREA, LONGEST = 4_000_000, 6000
"""Most pixels of a picture, and of its longest side; larger ones are made smaller."""
NARROWEST = 360
"""Least width of the whole, so that there is room for text."""
MARGIN = 12
FRAME = (255, 255, 255)
"""Colour of the dashed line around a part of an image."""
MOST_LINES = 3
"""Lines that list classes."""


def render_boxes(original: Pixels, title: str, boxes: BoxesOnImage) -> Image.Image:
    """Draw boxes with class and score on a picture, and below it a title and what was found.

    Args:
        original: H W 3.
        title: One line, such as a path; its beginning is left out as far as needed.
        boxes: In pixels of the original.
    """
    pixels, corners = fit_with_boxes(original, boxes.corners, *_frame(original))
    picture = Image.fromarray(_drawn(pixels, corners, boxes))
    width = max(picture.width, NARROWEST)
    size = min(max(width // 72, 13), 24)
    legend = _legend(boxes, size, width - 2 * MARGIN)
    line = size + 9
    above = max(picture.height, line)
    canvas = Image.new("RGB", (width, above + 2 * MARGIN + line * (1 + len(legend))), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, width, above - 1), fill=BACKDROP)
    canvas.paste(picture, ((width - picture.width) // 2, (above - picture.height) // 2))
    face = font(size, title)
    top = above + MARGIN
    draw.text((MARGIN, top), shortened(title, face, width - 2 * MARGIN, ending), fill=INK, font=face)
    for number, entries in enumerate(legend, start=1):
        _draw_entries(draw, entries, top + number * line, size)
    return canvas


def class_names(boxes: BoxesOnImage) -> set[str]:
    """The names that are drawn."""
    return {boxes.classes[label] for label in np.unique(boxes.class_ids)}


def fit_row(row: PreviewRow, heading: str, pixels: Pixels, side: int) -> Image.Image:
    """A picture of a preview within a square, with its boxes and their classes."""
    boxes = row.boxes.get(heading)
    if boxes is None:
        return fit_bare(row, heading, pixels, side)
    fitted, corners = fit_with_boxes(pixels, boxes.corners, side, side)
    if boxes.part is not None:
        frame = fit_with_boxes(pixels, np.array([boxes.part]), side, side)[1]
        fitted = draw_boxes(fitted, frame, [""], [FRAME], dashed=[True])
    return Image.fromarray(_drawn(fitted, corners, boxes))


def _drawn(pixels: Pixels, corners: np.ndarray, boxes: BoxesOnImage) -> Pixels:
    names = [boxes.classes[label] for label in boxes.class_ids]
    captions = names
    if boxes.scores is not None:
        captions = [f"{name} {score:.2f}" for name, score in zip(names, boxes.scores, strict=True)]
    colours = [colour_of(int(label)) for label in boxes.class_ids]
    return draw_boxes(pixels, corners, captions, colours)


def _frame(pixels: Pixels) -> tuple[int, int]:
    """Width and height that a picture is fitted into: its own, unless it is too small or too large to be looked at."""
    height, width = pixels.shape[:2]
    if max(height, width) <= SMALLEST:
        return ENLARGED, ENLARGED
    by = min(1.0, math.sqrt(AREA / (height * width)), LONGEST / max(height, width))
    return max(1, round(width * by)), max(1, round(height * by))


Entry = tuple[tuple[int, int, int] | None, str, int]
"""Colour of a patch before a text, if it has one; the text; how far from the left it stands."""


def _legend(boxes: BoxesOnImage, size: int, room: int) -> list[list[Entry]]:
    """Lines with the number of boxes of each class and the score that they need, the most frequent class first."""
    counts = Counter(boxes.class_ids.tolist()).most_common()
    least = [""] * len(boxes.classes)
    if boxes.least is not None:
        least = [f" of score {score:.2f} or more" for score in boxes.least]
    texts: list[tuple[tuple[int, int, int] | None, str]] = [
        (colour_of(label), f"{boxes.classes[label]}: {count}{least[label]}") for label, count in counts
    ]
    lines: list[list[Entry]] = [[]]
    left = 0
    for colour, text in texts or [(None, _nothing(boxes))]:
        face = font(size, text)
        text = shortened(text, face, room - size - 6, ends)
        width = round(face.getlength(text)) + 2 * size + 6
        if left and left + width - size > room:
            lines.append([])
            left = 0
        lines[-1].append((colour, text, left))
        left += width
    if len(lines) > MOST_LINES:
        rest = sum(map(len, lines[MOST_LINES:]))
        lines = [*lines[:MOST_LINES], [(None, f"and {rest} more classes", 0)]]
    return lines


def _nothing(boxes: BoxesOnImage) -> str:
    if boxes.least is None or not len(boxes.least):
        return "no box"
    lowest, highest = (f"{score:.2f}" for score in (boxes.least.min(), boxes.least.max()))
    return f"no box: none has a score of {lowest}" + (f" to {highest}, by its class" if highest != lowest else "")


def _draw_entries(draw: ImageDraw.ImageDraw, entries: list[Entry], top: int, size: int) -> None:
    for colour, text, left in entries:
        left += MARGIN
        if colour is not None:
            draw.rectangle((left, top + 2, left + size - 2, top + size), fill=colour)
            left += size + 6
        draw.text((left, top), text, fill=MUTED, font=font(size, text))
