"""YOLO folders: a text file beside each image, with a line `class x y width height` for each box."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from vision_train.data.boxes.annotations import Corners, Findings, Listed, ListedBox, ListedImage
from vision_train.data.boxes.find_images import picture_size
from vision_train.data.decode import IMAGE_ENDINGS
from vision_train.data.kind import SPLITS
from vision_train.data.labels import class_name
from vision_train.data.sources import list_images_in
from vision_train.data.splits import split_called
from vision_train.data.tables import read_text
from vision_train.errors import UserError
from vision_train.files import first_named, printable

IMAGES_FOLDER, LABELS_FOLDER = "images", "labels"
"""Folders of which one mirrors the other."""
BOX = 4
"""Numbers of a box."""
SLACK = 0.05
"""How far beyond the image a number may lie that counts as a share of it."""


def read_yolo(path: Path, split: str | None, images: Path | None, findings: Findings) -> Listed:
    """Read a data set that a file describes: ``data.yaml``, or only names of classes.

    Args:
        path: The file.
        split: The one split to take as such, or the split that the folder is taken as; None takes all that are named.
        images: Folder of the images, where the file does not say it.
        findings: Takes what is wrong.

    Raises:
        UserError: The file cannot be read, or names no classes or images.
    """
    if images is not None and not images.is_dir():
        raise UserError(f"{printable(str(images))}: no such folder; say where the images are with data.images")
    described = _described(path)
    names = _names(path, described)
    listed = Listed(categories={name: number for number, name in names.items()})
    for place_split, files in _image_files(path, described, images, findings):
        if split is None or place_split in (None, split):
            for file in files:
                listed.images.append(_read_image(file, place_split or split, names, findings))
    _note_alone(listed, findings)
    return listed


def _described(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return {"names": [line.strip() for line in text.splitlines() if line.strip()]}
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is no YAML ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: names no classes; it needs the keys names, train and val")
    return content


def _names(path: Path, described: dict[str, Any]) -> dict[int, str]:
    names = described.get("names")
    try:
        listed = names if isinstance(names, dict) else dict(enumerate(names or []))
        found = dict(sorted((int(number), class_name(str(name))) for number, name in listed.items()))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: `names` is no list of names, nor numbers with names; mend it") from error
    if not found:
        raise UserError(f"{path}: names no classes; list them under `names`")
    if repeated := [name for name, count in Counter(found.values()).items() if count > 1]:
        raise UserError(f"{path}: `names` lists {first_named(repeated)} more than once; give each class its own name")
    if isinstance(count := described.get("nc"), int) and count != len(found):
        raise UserError(f"{path}: `nc` is {count}, and `names` lists {len(found)} classes; mend the one that is wrong")
    return found


def _image_files(
    path: Path, described: dict[str, Any], images: Path | None, findings: Findings
) -> Iterator[tuple[str | None, list[Path]]]:
    """The images of each split that the file names; all images below the folder where it names none."""
    named = {split_called(str(key)): value for key, value in described.items() if value and split_called(str(key))}
    if not any(split in named for split in SPLITS):
        yield from _below(images or path.parent)
        return
    base = path.parent
    if (written := described.get("path")) and (stated := path.parent / str(written)).is_dir():
        base = stated
    for split in SPLITS:
        places = named.get(split) or []
        files: list[Path] = []
        for place in [places] if isinstance(places, str) else places:
            found = _place(str(place), (base, path.parent, *([images] if images else [])))
            if found is None and split == "train":
                raise UserError(
                    f"{path}: train names {place}, which is not there; mend it, or name a split with data.labels"
                )
            if found is None:  # Roboflow names a test split whether there is one or not
                findings.note("splits whose images are not there", f"{split} of {path.name} ({printable(str(place))})")
            files += [] if found is None else _files_of(found)
        yield split, files


def _below(folder: Path) -> Iterator[tuple[str | None, list[Path]]]:
    by_split: dict[str | None, list[Path]] = {}
    for file in list_images_in(folder).below(folder, set()):
        inside = file.parent.relative_to(folder).parts
        split = next((found for part in inside if (found := split_called(part))), None)
        by_split.setdefault(split, []).append(file)
    if not by_split:
        raise UserError(f"{folder}: no images in it; say where they are with data.images")
    yield from by_split.items()


def _place(written: str, bases: Sequence[Path]) -> Path | None:
    """A folder or list that a file names: as it is, without steps upwards, or by the end of its path."""
    parts = [part for part in written.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for base in bases:
        ends = (base.joinpath(*parts[start:]) for start in range(len(parts)))
        for candidate in (base / written, *ends):
            if candidate.exists() and candidate != base:
                return candidate
    return None


def _files_of(place: Path) -> list[Path]:
    """Images of a folder, or those that a text file lists."""
    if place.is_dir():
        return list_images_in(place).below(place, set())
    listed = []
    for line in read_text(place).splitlines():
        if written := line.strip():
            found = _place(written, (place.parent, place.parent.parent))
            listed.append(found or place.parent / written)
    return listed


def label_file(image: Path) -> Path:
    """Where the boxes of an image stand: in the folder `labels` instead of `images`, or beside it."""
    parts = list(image.parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == IMAGES_FOLDER:
            mirrored = Path(*parts[:index], LABELS_FOLDER, *parts[index + 1 :]).with_suffix(".txt")
            if mirrored.parent.is_dir() or not image.with_suffix(".txt").is_file():
                return mirrored
            break
    return image.with_suffix(".txt")


def _read_image(file: Path, split: str | None, names: dict[int, str], findings: Findings) -> ListedImage:
    labels = label_file(file)
    listed = ListedImage(str(file), str(labels), [], picture_size(file), None, split, None)
    if not file.is_file():
        findings.mend("images that are listed but not there", printable(str(file)))
        return listed
    listed.path = file
    if listed.size is None or not labels.is_file():
        return listed
    for number, line in enumerate(read_text(labels).splitlines(), start=1):
        if line.strip():
            box = _read_line(line, f"{labels.parent.name}/{labels.name} line {number}", listed.size, names, findings)
            listed.boxes += [] if box is None else [box]
    return listed


def _read_line(
    line: str, place: str, size: tuple[int, int], names: dict[int, str], findings: Findings
) -> ListedBox | None:
    try:
        first, *numbers = (float(part) for part in re.split(r"[\s,]+", line.strip()))
    except ValueError:
        findings.mend("lines that are not numbers", f"{place} ({printable(line.strip()[:40])})")
        return None
    if first not in names:
        findings.mend("boxes of classes that are not named", f"{place} (class {first:g} of {len(names)})")
        return None
    if len(numbers) < BOX or (len(numbers) > BOX + 1 and len(numbers) % 2):
        findings.mend("lines that are neither a box nor a polygon", f"{place} ({len(numbers) + 1} numbers)")
        return None
    if len(numbers) == BOX + 1:
        findings.note("lines with a sixth number (a confidence or a track), which is left out", place)
    polygon = len(numbers) > BOX + 1
    shares = numbers if polygon else numbers[:BOX]
    if not all(-SLACK <= share <= 1 + SLACK for share in shares):
        findings.mend("lines whose numbers are no shares of the image, from 0 to 1", f"{place} ({line.strip()[:40]})")
        return None
    if polygon:
        findings.note("boxes taken around polygons", place)
    corners = _around(shares) if polygon else _from_centre(shares)
    (x1, y1, x2, y2), (width, height) = corners, size
    return ListedBox((x1 * width, y1 * height, x2 * width, y2 * height), names[int(first)], False, place)


def _from_centre(shares: Sequence[float]) -> Corners:
    x, y, width, height = shares
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _around(points: Sequence[float]) -> Corners:
    xs, ys = points[0::2], points[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _note_alone(listed: Listed, findings: Findings) -> None:
    """Note files of boxes whose image is not there, in the folders of those that were read."""
    images_of: dict[Path, set[Path]] = {}
    for image in listed.images:
        images_of.setdefault(Path(image.place).parent, set()).add(Path(image.name).parent)
    for labels, folders in images_of.items():
        stems = {file.stem for folder in folders if folder.is_dir() for file in folder.iterdir() if _is_image(file)}
        for file in sorted(labels.glob("*.txt")):
            if file.stem not in stems and _holds_boxes(file):
                findings.mend("files of boxes without their image", printable(str(file)))


def _holds_boxes(file: Path) -> bool:
    """Whether a line of numbers begins a text file, unlike a list of images or of classes, which may be digits."""
    return re.match(r"\s*\d+(\.0*)?[ \t,]+-?[\d.]", file.read_text(encoding="utf-8", errors="replace")) is not None


def _is_image(file: Path) -> bool:
    """Whether a file is named like an image and not hidden."""
    return file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".")
