"""Which files hold the annotations of a data set, and in which format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vision_train.data.boxes import Section
from vision_train.data.boxes.voc import VOC_FOLDER, xml_files
from vision_train.data.splits import split_called
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.wording import first_named

Format = Literal["coco", "yolo", "voc"]

YOLO_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
"""Files that name the classes of a YOLO data set."""
_FORMATS = "a COCO json, the data.yaml of a YOLO data set, or a folder of Pascal VOC xml"
_OTHER_COCO = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")
"""How files beside those of boxes begin in COCO."""
_NO_SPLIT = re.compile(r"instances|annotations?|coco|labels?|boxes|bbox|detections?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """One file or folder of annotations."""

    path: Path
    format: Format
    split: str | None = None
    """The split that all of its images belong to; None where it is not said, or where it names splits itself."""

    @property
    def folder(self) -> Path:
        """The folder that it lies in, or that it is."""
        return self.path if self.path.is_dir() else self.path.parent


def sources(section: Section) -> list[Source]:
    """The annotations that a recipe names, or that its folder holds.

    Raises:
        UserError: There are none, or they are of no known format.
    """
    if isinstance(section.labels, dict):
        return [named(Path(path), f"data.labels.{split}", split) for split, path in section.labels.items()]
    if section.labels is not None:
        path = Path(section.labels)
        if path.is_dir() and not xml_files(path):
            return detect(path, "data.labels")
        return [named(path, "data.labels")]
    assert section.root is not None
    return detect(Path(section.root), "data.root")


def named(path: Path, key: str, split: str | None = None) -> Source:
    """A file or folder that a recipe or a command names.

    Args:
        path: The file or folder.
        key: Of the recipe, for messages.
        split: The split that it is named for.

    Raises:
        UserError: It is not there, or of no known format.
    """
    if not path.exists():
        raise UserError(f"{key} {printable(str(path))}: no such file; name {_FORMATS}, by its path from where you are")
    if path.is_dir():
        found = detect(path, key)
        if len(found) > 1:
            raise UserError(f"{key} {path}: holds {first_named([str(each.path) for each in found])}; name one of them")
        return Source(found[0].path, found[0].format, split)
    ending = path.suffix.lower()
    if ending == ".json":
        return Source(path, "coco", split)
    if ending in (".yaml", ".yml") or path.name in YOLO_NAMES:
        return Source(path, "yolo", split)
    raise UserError(f"{key} {printable(str(path))}: is no file of boxes; name {_FORMATS}")


def detect(folder: Path, key: str) -> list[Source]:
    """The annotations that a folder holds.

    Raises:
        UserError: It holds none, or several that could be meant.
    """
    if not folder.is_dir():
        raise UserError(f"{key} {printable(str(folder))}: no such folder; say where the data set is")
    if (described := _yolo_file(folder)) is not None:
        return [Source(described, "yolo")]
    if found := _coco_files(folder):
        return _told_apart(found, folder, key)
    if found := _voc_folders(folder):
        return _told_apart(found, folder, key)
    if nameless := [folder / name for name in YOLO_NAMES if (folder / name).is_file()]:
        return [Source(nameless[0], "yolo")]  # reading it tells what it lacks
    raise UserError(
        f"{key} {printable(str(folder))}: no annotations of boxes in it; it needs {_FORMATS}, or name "
        "them with data.labels"
    )


def _yolo_file(folder: Path) -> Path | None:
    """The file that names the classes of a YOLO data set; Label Studio writes a json beside it."""
    others = (file for ending in ("*.yaml", "*.yml") for file in sorted(folder.glob(ending)))
    candidates = [*(folder / name for name in YOLO_NAMES), *others]
    return next(
        (file for file in candidates if file.is_file() and (file.suffix == ".txt" or _names_classes(file))), None
    )


def _names_classes(file: Path) -> bool:
    text = file.read_text(encoding="utf-8", errors="replace")
    return file.name == "obj.names" or re.search(r"^names\s*:", text, re.MULTILINE) is not None


def _coco_files(folder: Path) -> list[Source]:
    places = [folder, *(each for each in sorted(folder.iterdir()) if each.is_dir() and not each.name.startswith("."))]
    files = [file for place in places for file in sorted(place.glob("*.json")) if not file.name.startswith(".")]
    wanted = [file for file in files if not file.name.startswith(_OTHER_COCO)]
    return [Source(file, "coco", _split_of(file, folder)) for file in wanted or files]


def _voc_folders(folder: Path) -> list[Source]:
    whole = next((place for place in (folder / VOC_FOLDER, folder) if xml_files(place)), None)
    if whole is not None:
        return [Source(whole, "voc")]
    return [
        Source(place, "voc", split_called(each.name))
        for each in sorted(folder.iterdir())
        for place in (each, each / VOC_FOLDER)
        if each.is_dir() and xml_files(place)
    ]


def _split_of(file: Path, root: Path) -> str | None:
    """The split that a file is called after, or the folder that it lies in."""
    by_name = split_called(_NO_SPLIT.sub(" ", file.stem))
    return by_name or (split_called(file.parent.name) if file.parent != root else None)


def _told_apart(found: list[Source], folder: Path, key: str) -> list[Source]:
    """Several files of annotations, each for a split of its own."""
    splits = [each.split for each in found]
    if len(found) > 1 and (None in splits or len(set(splits)) < len(splits)):
        shown = first_named(list(_relative(found, folder)))
        raise UserError(
            f"{key} {printable(str(folder))}: holds {shown}; say which is for which split with "
            "data.labels={train: FILE, val: FILE}"
        )
    return found


def _relative(found: list[Source], folder: Path) -> Iterator[str]:
    for each in found:
        yield each.path.relative_to(folder).as_posix()
