"""From what annotations say to samples: images found, boxes clipped, what cannot be used left out and counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from vision_train.data.boxes.annotations import Annotated, BoxSample, Corners, Findings, ListedBox, ListedImage
from vision_train.data.boxes.find_images import picture_size
from vision_train.errors import UserError
from vision_train.files import printable

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


def samples_of(images: Sequence[ListedImage], root: Path | None, findings: Findings) -> list[BoxSample]:
    """The samples that images make which were found."""
    samples: list[BoxSample] = []
    taken: dict[Path, ListedImage] = {}
    for image in images:
        if image.path is None:
            continue
        first = taken.setdefault(image.path, image)
        if first is not image and first.split == image.split:
            findings.mend("images that are listed twice", f"{printable(image.name)} ({first.place} and {image.place})")
            continue
        size = image.size or picture_size(image.path)
        if size is None:
            findings.mend("images whose size cannot be read", printable(str(image.path)))
            continue
        truth = _annotated(image.boxes, size, findings)
        samples.append(
            BoxSample(_id(image.path, root), str(image.path), truth, image.split, image.group, image.image_id)
        )
    return samples


def refuse_misread(images: Sequence[ListedImage], source: Path, order: str) -> None:
    """Refuse boxes that reach beyond their images but would not in another order of their four numbers.

    Args:
        images: With the corners of their boxes.
        source: Where they are listed, for the message.
        order: The order of :data:`READINGS` that was read.

    Raises:
        UserError: That is so.
    """
    placed = [(box.corners, image.size, box.place) for image in images if image.size for box in image.boxes]
    beyond = [place for corners, size, place in placed if not _inside(corners, size)]
    if len(beyond) < FEWEST or len(beyond) <= MISREAD * len(placed):
        return
    numbers = _NUMBERS[order]
    fitting = [
        other
        for other, reading in READINGS.items()
        if other != order and all(_inside(reading(*numbers(*corners)), size) for corners, size, _ in placed)
    ]
    if fitting:
        raise UserError(
            f"{printable(str(source))}: {len(beyond)} of {len(placed)} boxes reach beyond their images as they are "
            f"read ({order}), and none does if the numbers are {' or '.join(fitting)}; write {order} (the first is "
            f"{beyond[0]})"
        )


def refuse_shares(images: Sequence[ListedImage], source: Path) -> None:
    """Refuse boxes of a format in pixels that all lie in the first pixel of their images: they are shares of them.

    Args:
        images: With the corners of their boxes.
        source: Where they are listed, for the message.

    Raises:
        UserError: That is so.
    """
    boxes = [box for image in images if image.size is None or min(image.size) > 1 for box in image.boxes]
    if len(boxes) >= FEWEST and all(-1 <= number <= 1 for box in boxes for number in box.corners):
        raise UserError(
            f"{printable(str(source))}: no box reaches beyond the first pixel of its image, as if the numbers were "
            f"shares of width and height; write pixels (the first is {boxes[0].place})"
        )


def _inside(corners: Corners, size: tuple[int, int]) -> bool:
    (x1, y1, x2, y2), (width, height) = corners, size
    x, y = BEYOND * width, BEYOND * height
    return -x <= x1 <= x2 <= width + x and -y <= y1 <= y2 <= height + y


def _annotated(boxes: Sequence[ListedBox], size: tuple[int, int], findings: Findings) -> Annotated:
    placed = [(clipped, box) for box in boxes if (clipped := _clipped(box, size, findings)) is not None]
    kept = [(corners, box) for corners, box in placed if not box.ignored]
    ignored = [(corners, box) for corners, box in placed if box.ignored]
    return Annotated(
        tuple(corners for corners, _ in kept),
        tuple(box.label for _, box in kept),
        tuple(corners for corners, _ in ignored),
        *size,
        _areas(kept),
        tuple(box.label if box.crowd else "" for _, box in ignored) if any(box.crowd for _, box in ignored) else (),
    )


def _areas(kept: Sequence[tuple[Corners, ListedBox]]) -> tuple[float, ...]:
    """Area of each object, that of its box where the file says none; nothing where it says none at all."""
    if all(box.area is None for _, box in kept):
        return ()
    return tuple((x2 - x1) * (y2 - y1) if box.area is None else box.area for (x1, y1, x2, y2), box in kept)


def _clipped(box: ListedBox, size: tuple[int, int], findings: Findings) -> Corners | None:
    """The part of a box that is on the image; None where it has no area there."""
    (x1, y1, x2, y2), (width, height) = box.corners, size
    if 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height:
        return box.corners
    if not all(map(math.isfinite, box.corners)):
        findings.mend("boxes that are not four numbers", box.place)
    elif x2 <= x1 or y2 <= y1:
        findings.mend("boxes of zero or negative size", box.place)
    elif x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        findings.mend("boxes that lie outside of their image", box.place)
    else:
        clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if max(-x1, -y1, x2 - width, y2 - height) > 1:
            findings.note("boxes clipped to their image, of which more than a pixel lies outside", box.place)
        return clipped
    return None


def _id(path: Path, root: Path | None) -> str:
    """The path below the root, or as it is."""
    return path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else str(path)
