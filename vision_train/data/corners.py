"""Boxes by their corners: the orders in which files write four numbers, and boxes that reach beyond their image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from vision_train.data.findings import Findings
from vision_train.errors import UserError
from vision_train.files import printable

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the original image."""
Placed = tuple[Corners, tuple[int, int] | None, str]
"""A box, width and height of its image where they are known, and where it stands in its file."""
MISREAD = 0.1
"""Share of boxes that reach far beyond their image from which on the annotations are taken for another format."""
FEWEST = 3
"""So many boxes have to do so."""
BEYOND = 0.05
"""How far that is, in sides of the image."""

Reading = Callable[[float, float, float, float], Corners]
"""Four numbers of a box -> its corners."""
READINGS: dict[str, Reading] = {
    "left, top, width, height": lambda a, b, c, d: (a, b, a + c, b + d),
    "centre x, centre y, width, height": lambda a, b, c, d: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    "left, top, right, bottom": lambda a, b, c, d: (a, b, c, d),
}
"""The orders of four numbers that formats of annotations have."""
_NUMBERS: dict[str, Reading] = {
    "left, top, width, height": lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1),
    "centre x, centre y, width, height": lambda x1, y1, x2, y2: ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1),
}
"""The way back."""


def refuse_misread(placed: Sequence[Placed], source: Path, order: str) -> None:
    """Refuse boxes that reach beyond their images but would not in another order of their four numbers.

    Args:
        placed: The boxes; those of images of unknown size are passed over.
        source: Where they are listed, for the message.
        order: The order of :data:`READINGS` that was read.

    Raises:
        UserError: That is so.
    """
    sized = [(corners, size, place) for corners, size, place in placed if size is not None]
    beyond = [place for corners, size, place in sized if not _inside(corners, size)]
    if len(beyond) < FEWEST or len(beyond) <= MISREAD * len(sized):
        return
    numbers = _NUMBERS[order]
    fitting = [
        other
        for other, reading in READINGS.items()
        if other != order and all(_inside(reading(*numbers(*corners)), size) for corners, size, _ in sized)
    ]
    if fitting:
        raise UserError(
            f"{printable(str(source))}: {len(beyond)} of {len(sized)} boxes reach beyond their images as they are "
            f"read ({order}), and none does if the numbers are {' or '.join(fitting)}; write {order} (the first is "
            f"{beyond[0]})"
        )


def refuse_shares(placed: Sequence[Placed], source: Path) -> None:
    """Refuse boxes of a format in pixels that all lie in the first pixel of their images: they are shares of them.

    Args:
        placed: The boxes.
        source: Where they are listed, for the message.

    Raises:
        UserError: That is so.
    """
    boxes = [(corners, place) for corners, size, place in placed if size is None or min(size) > 1]
    if len(boxes) >= FEWEST and all(-1 <= number <= 1 for corners, _ in boxes for number in corners):
        raise UserError(
            f"{printable(str(source))}: no box reaches beyond the first pixel of its image, as if the numbers were "
            f"shares of width and height; write pixels (the first is {boxes[0][1]})"
        )


def clip_corners(corners: Corners, size: tuple[int, int], place: str, findings: Findings) -> Corners | None:
    """The part of a box that is on the image; None where it has no area there.

    Args:
        corners: The box.
        size: Width and height of the image.
        place: Where the box stands in its file, for messages.
        findings: Takes what is wrong.
    """
    (x1, y1, x2, y2), (width, height) = corners, size
    if 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height:
        return corners
    if not all(map(math.isfinite, corners)):
        findings.mend("boxes that are not four numbers", place)
    elif x2 <= x1 or y2 <= y1:
        findings.mend("boxes of zero or negative size", place)
    elif x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        findings.mend("boxes that lie outside of their image", place)
    else:
        clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if max(-x1, -y1, x2 - width, y2 - height) > 1:
            findings.note("boxes clipped to their image, of which more than a pixel lies outside", place)
        return clipped
    return None


def _inside(corners: Corners, size: tuple[int, int]) -> bool:
    (x1, y1, x2, y2), (width, height) = corners, size
    x, y = BEYOND * width, BEYOND * height
    return -x <= x1 <= x2 <= width + x and -y <= y1 <= y2 <= height + y
