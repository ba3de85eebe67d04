"""YOLO folders: a text file beside each image, with a line `class x y width height` for each box."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vision_train.data.boxes.annotations import Listed, ListedBox, ListedImage
from vision_train.data.corners import Corners
from vision_train.data.find_images import picture_size
from vision_train.data.findings import Findings
from vision_train.data.folders import IMAGE_ENDINGS
from vision_train.data.kind import SPLITS
from vision_train.data.labels import class_name
from vision_train.data.sources import list_images_in
from vision_train.data.splits import split_called
from vision_train.data.tables import read_text
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.wording import first_named

IMAGES_FOLDER, LABELS_FOLDER = "images", "labels"
"""Folders of which one mirrors the other."""
BOX = 4
"""Numbers of a box."""
YAML_ENDINGS = (".yaml", ".yml")
DARKNET = "obj.data"
"""File that names the lists of images of the splits, beside `obj.names`."""
SLACK = 0.05
"""How far beyond the image a number may lie that counts as a share of it."""


@dataclass(frozen=True)
class _Classes:
    """What the numbers of a line mean."""

    names: Mapping[int, str]
    keypoints: int = 0
    """Numbers of the key points that stand behind each box."""


def read_yolo(path: Path, split: str | None, images: Mapping[str | None, Path], findings: Findings) -> Listed:
    """Read a data set that a file describes: ``data.yaml``, or only names of classes.

    Args:
        path: The file.
        split: The one split to take as such, or the split that the folder is taken as; None takes all that are named.
        images: Folder of the images of each split, where the file does not say it; of None, that of all.
        findings: Takes what is wrong.

    Raises:
        UserError: The file cannot be read, or names no classes or images.
    """
    if absent := [folder for folder in images.values() if not folder.is_dir()]:
        raise UserError(f"{printable(str(absent[0]))}: no such folder; say where the images are with data.images")
    described = _described(path)
    classes = _Classes(_names(path, described), _keypoints(path, described))
    listed = Listed(categories={name: number for number, name in classes.names.items()})
    for place_split, files in _image_files(path, described, images, findings):
        if split is None or place_split in (None, split):
            for file in files:
                listed.images.append(_read_image(file, place_split or split, classes, findings))
    _note_alone(listed, findings)
    return listed


def _described(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if path.suffix.lower() not in YAML_ENDINGS:
        names = [line.strip() for line in text.splitlines() if line.strip()]
        return {**_darknet(path.with_name(DARKNET)), "names": names}
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is no YAML ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: names no classes; it needs the keys names, train and val")
    return content


def _darknet(path: Path) -> dict[str, Any]:
    """The lists of images of the splits, which Darknet and CVAT name in a file beside the names of classes."""
    lines = (line.partition("=") for line in read_text(path).splitlines()) if path.is_file() else ()
    # `eval` names a way to evaluate there.
    return {key.strip(): value.strip() for key, _, value in lines if split_called(key) and key.strip() != "eval"}


def _names_splits(path: Path) -> Path:
    """The file that names the splits, given the one that names the classes."""
    return path if path.suffix.lower() in YAML_ENDINGS else path.with_name(DARKNET)


def _keypoints(path: Path, described: dict[str, Any]) -> int:
    """How many numbers of key points follow each box, in data sets of poses."""
    shape = described.get("kpt_shape") or [0, 0]
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(each, int) for each in shape)):
        raise UserError(f"{path}: `kpt_shape` is {shape}; it is the number of key points and 2 or 3, as in [17, 3]")
    return int(shape[0] * shape[1])


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
    path: Path, described: dict[str, Any], images: Mapping[str | None, Path], findings: Findings
) -> Iterator[tuple[str | None, list[Path]]]:
    """The images of each split that the file names; all images below the folder where it names none."""
    named = {split_called(str(key)): value for key, value in described.items() if value and split_called(str(key))}
    if not any(split in named for split in SPLITS):
        for given, folder in (images or {None: path.parent}).items():
            yield from ((given or found, files) for found, files in _below(folder))
        return
    base = path.parent
    if (written := described.get("path")) and (stated := path.parent / str(written)).is_dir():
        base = stated
    for split in SPLITS:
        places = named.get(split) or []
        bases = (base, path.parent, *(images[key] for key in (split, None) if key in images))
        files: list[Path] = []
        for place in [places] if isinstance(places, str) else places:
            found = _place(str(place), bases)
            if found is None and split == "train":
                raise UserError(
                    f"{_names_splits(path)}: train names {place}, which is not there; mend it, or name a split "
                    "with data.labels"
                )
            if found is None:  # Roboflow names a test split whether there is one or not
                findings.note("splits whose images are not there", f"{split} of {path.name} ({printable(str(place))})")
            files += [] if found is None else _files_of(found, bases)
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


def _files_of(place: Path, bases: Sequence[Path]) -> list[Path]:
    """Images of a folder, or those that a text file lists."""
    if place.is_dir():
        return list_images_in(place).below(place, set())
    listed = []
    for line in read_text(place).splitlines():
        if written := line.strip():
            found = _place(written, (place.parent, place.parent.parent, *bases))
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


def _read_image(file: Path, split: str | None, classes: _Classes, findings: Findings) -> ListedImage:
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
            box = _read_line(line, f"{labels.parent.name}/{labels.name} line {number}", listed.size, classes, findings)
            listed.boxes += [] if box is None else [box]
    return listed


def _read_line(line: str, place: str, size: tuple[int, int], classes: _Classes, findings: Findings) -> ListedBox | None:
    try:
        first, *numbers = (float(part) for part in re.split(r"[\s,]+", line.strip()))
    except ValueError:
        findings.mend("lines that are not numbers", f"{place} ({printable(line.strip()[:40])})")
        return None
    if first not in classes.names:
        findings.mend("boxes of classes that are not named", f"{place} (class {first:g} of {len(classes.names)})")
        return None
    if classes.keypoints and len(numbers) == BOX + classes.keypoints:
        numbers = numbers[:BOX]
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
    return ListedBox((x1 * width, y1 * height, x2 * width, y2 * height), classes.names[int(first)], False, place)


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
