"""From what annotations say to samples: images found, boxes clipped, what cannot be used left out and counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vision_train.data.boxes.annotations import Annotated, BoxSample, ListedBox, ListedImage
from vision_train.data.corners import Corners, clip_corners
from vision_train.data.find_images import picture_size
from vision_train.data.findings import Findings
from vision_train.files import printable


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


def _annotated(boxes: Sequence[ListedBox], size: tuple[int, int], findings: Findings) -> Annotated:
    clipped = [(clip_corners(box.corners, size, box.place, findings), box) for box in boxes]
    placed = [(corners, box) for corners, box in clipped if corners is not None]
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


def _id(path: Path, root: Path | None) -> str:
    """The path below the root, or as it is."""
    return path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else str(path)
