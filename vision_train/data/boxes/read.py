"""From a recipe's section to samples: annotations of all formats, joined by the names of classes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vision_train.data.boxes import FILES, Section
from vision_train.data.boxes.annotations import BoxSample, CategoryId, Listed, ListedImage
from vision_train.data.boxes.clean import samples_of
from vision_train.data.boxes.coco import read_coco
from vision_train.data.boxes.drawn import drawn_samples
from vision_train.data.boxes.layout import Source, sources
from vision_train.data.boxes.voc import read_voc
from vision_train.data.boxes.yolo import read_yolo
from vision_train.data.classes import class_order
from vision_train.data.corners import refuse_misread, refuse_shares
from vision_train.data.find_images import ImageFinder
from vision_train.data.findings import Findings
from vision_train.errors import UserError
from vision_train.wording import first_named

_ORDER = {"coco": "left, top, width, height", "yolo": "centre x, centre y, width, height"}
_COPIES = ".rf."
"""Stands between the name of an image and what tells the copies apart that Roboflow makes of it."""


@dataclass(frozen=True)
class FoundBoxes:
    """The images of a data set.

    Attributes:
        samples: In the order of their annotations.
        categories: Number of each class, in the order of numbers.
        notes: What the user should know of how they were read.
    """

    samples: list[BoxSample]
    categories: dict[str, CategoryId]
    notes: list[str]


def read_boxes(section: Section, findings: Findings) -> FoundBoxes:
    """Read all annotations that a section names, and find their images.

    Raises:
        UserError: Something is missing, or of no known format.
    """
    if section.source != FILES:
        samples = drawn_samples(section.source)
        names = dict.fromkeys(sorted(label for sample in samples for label in sample.truth.labels))
        return FoundBoxes(samples, {name: number for number, name in enumerate(names, start=1)}, [])
    root = None if section.root is None else Path(section.root)
    lists: list[tuple[Source, Listed]] = []
    finders: dict[tuple[Path, ...], ImageFinder] = {}
    for source in sources(section):
        listed = _read(source, section, finders, findings)
        placed = [(box.corners, image.size, box.place) for image in listed.images for box in image.boxes]
        if source.format in _ORDER:
            refuse_misread(placed, source.path, _ORDER[source.format])
        if source.format != "yolo":
            refuse_shares(placed, source.path)
        lists.append((source, listed))
    images = [image for _, listed in lists for image in listed.images]
    samples = _told_apart(_grouped(samples_of(images, root or _common_folder(lists, section), findings)))
    if not samples:
        where = first_named([str(source.path) for source, _ in lists])
        raise UserError(f"{where}: not one image can be used; {'; '.join([*findings.wrong]) or 'it lists none'}")
    categories, notes = join_categories([(str(source.path), listed.categories) for source, listed in lists])
    return FoundBoxes(samples, categories, notes)


def _read(source: Source, section: Section, finders: dict[tuple[Path, ...], ImageFinder], findings: Findings) -> Listed:
    folders = _image_folders(source, section)
    if source.format == "yolo":
        return read_yolo(source.path, source.split, _yolo_folders(section, source.split), findings)
    reader = read_coco if source.format == "coco" else read_voc
    listed = reader(source.path, source.split, findings)
    finder = finders.setdefault(folders, finders.get(folders) or ImageFinder(folders))
    for image in listed.images:
        image.path = finder.find(image.name, image.split, source.folder, findings)
    if source.split is None and isinstance(section.images, dict):
        _divide_by_folder(listed.images, section.images)
    return listed


def _yolo_folders(section: Section, split: str | None) -> dict[str | None, Path]:
    """The folder of images of each split that the recipe names; of None, that of all."""
    if not isinstance(section.images, dict):
        return {} if section.images is None else {None: Path(section.images)}
    if split in section.images:
        return {split: Path(section.images[split])}
    return {name: Path(folder) for name, folder in section.images.items()}


def _image_folders(source: Source, section: Section) -> tuple[Path, ...]:
    """Where the images of a file of annotations are looked for."""
    if isinstance(section.images, dict):
        named = [section.images[source.split]] if source.split in section.images else [*section.images.values()]
        return tuple(map(Path, named))
    if section.images is not None or section.root is not None:
        return (Path(section.images or section.root or ""),)
    folder = source.folder
    return (folder.parent if folder.name.lower() in ("annotations", "labels") else folder,)


def _divide_by_folder(images: Sequence[ListedImage], folders: Mapping[str, str]) -> None:
    for image in images:
        inside = (split for split, folder in folders.items() if image.path and image.path.is_relative_to(folder))
        image.split = image.split or next(inside, None)


def _common_folder(lists: Sequence[tuple[Source, Listed]], section: Section) -> Path:
    """The folder that all images are looked for in, which their ids are paths below."""
    return Path(os.path.commonpath([folder for source, _ in lists for folder in _image_folders(source, section)]))


def _grouped(samples: list[BoxSample]) -> list[BoxSample]:
    """Keep together the copies that Roboflow makes of one image: `a_jpg.rf.1f3e.jpg` and `a_jpg.rf.90bc.jpg`."""
    stems = [Path(sample.place).name.partition(_COPIES)[0] if _COPIES in sample.place else None for sample in samples]
    copies = Counter(stems)
    return [
        replace(sample, group=stem) if stem is not None and sample.group is None and copies[stem] > 1 else sample
        for sample, stem in zip(samples, stems, strict=True)
    ]


def _told_apart(samples: list[BoxSample]) -> list[BoxSample]:
    """Name the split before the ids, where one image is in several."""
    if len({sample.id for sample in samples}) == len(samples):
        return samples
    return [replace(sample, id=f"{sample.split}/{sample.id}") for sample in samples]


def join_categories(
    lists: Sequence[tuple[str, Mapping[str, CategoryId | None]]],
) -> tuple[dict[str, CategoryId], list[str]]:
    """Join the classes of several files by their names; numbers are those of the first file that has the name.

    Classes that no file numbers follow in the order of their names.

    Args:
        lists: Place and classes of each file.

    Returns:
        The classes in the order of their numbers, and what to say of numbers that differ.

    Raises:
        UserError: A class that only a later file has, has the number of another one.
    """
    joined: dict[str, CategoryId] = {}
    differing: dict[str, None] = {}
    for place, categories in lists:
        for name, number in categories.items():
            if number is None:
                continue
            if name in joined:
                differing |= {f"{name} ({joined[name]}, in {place} {number})": None} if joined[name] != number else {}
            elif number in joined.values():
                other = next(each for each, taken in joined.items() if taken == number)
                raise UserError(
                    f"{place}: category {number} is {name}, and {other} in {lists[0][0]}; give all files one list of "
                    "categories"
                )
            else:
                joined[name] = number
    unnumbered = {name for _, categories in lists for name in categories if name not in joined}
    joined |= {name: number for number, name in enumerate(class_order(unnumbered), max(joined.values(), default=0) + 1)}
    notes = []
    if differing:
        notes.append(
            f"classes are matched by name, and predictions carry the numbers of {lists[0][0]}; other files have "
            f"others: {first_named([*differing])}"
        )
    return dict(sorted(joined.items(), key=lambda item: item[1])), notes
