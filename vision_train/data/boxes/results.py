"""Predictions in the format of COCO's results, with the ids of the annotations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vision_train.data.boxes import FILES, Section
from vision_train.data.boxes.annotations import BoxSample, CategoryId
from vision_train.data.boxes.layout import Source, sources
from vision_train.data.boxes.read import FoundBoxes, join_categories, read_boxes
from vision_train.data.findings import Findings
from vision_train.errors import UserError
from vision_train.previews import BoxesOnImage
from vision_train.recipe.recipe import Recipe
from vision_train.wording import first_named

ImageId = int | str


class CocoResults:
    """A list of boxes, each with ``image_id``, ``category_id``, ``bbox`` (left, top, width, height) and ``score``.

    Args:
        image_ids: Id of each image, by the id of its sample.
        category_ids: Number of each class.
        notes: Where the ids come from.
    """

    def __init__(
        self, image_ids: Mapping[str, ImageId], category_ids: Sequence[CategoryId], notes: Sequence[str]
    ) -> None:
        self.image_ids, self.category_ids, self.notes = image_ids, category_ids, list(notes)

    def entries(self, name: str, results: BoxesOnImage) -> list[dict[str, Any]]:
        """All boxes of an image, in original pixels; no threshold is applied."""
        boxes, image_id = results, self.image_ids[name]
        assert boxes.scores is not None
        corners = boxes.corners.copy()
        corners[:, 2:] -= corners[:, :2]
        columns = zip(boxes.class_ids.tolist(), corners.tolist(), boxes.scores.tolist(), strict=True)
        return [
            {"image_id": image_id, "category_id": self.category_ids[label], "bbox": sides, "score": score}
            for label, sides, score in columns
        ]


def open_results(recipe: Recipe, classes: list[str], samples: Sequence[BoxSample]) -> CocoResults:
    """Find the ids of the images and classes that are predicted.

    An image has the id of the recipe's annotations where those list its file. Else it has the number that its name is,
    as of COCO's own images, or the name itself, as other detectors' tools write it.

    Args:
        recipe: Its ``data`` names the annotations.
        classes: The label map of the run.
        samples: The images.

    Raises:
        UserError: Two images would get one id, or two classes one number.
    """
    section: Section = recipe.data
    files = {sample.id: os.path.realpath(sample.place) for sample in samples}
    listed, categories, notes = _annotations(section, {*files.values()})
    # Links are followed to find an image in the annotations, but it is called as the link is.
    named = {sample.id: _of_name(sample.place) for sample in samples if files[sample.id] not in listed}
    image_ids = {name: listed[file] if file in listed else named[name] for name, file in files.items()}
    _refuse_shared(image_ids)
    if named:
        names = first_named([f"{place} -> {number}" for place, number in named.items()])
        notes.append(f"image_id is taken from the file's name of images that no annotations list: {names}")
    return CocoResults(image_ids, _category_ids(section, classes, categories), notes)


def _annotations(section: Section, files: set[str]) -> tuple[dict[str, ImageId], dict[str, CategoryId], list[str]]:
    """The ids of images by file, and the numbers of classes, as the annotations that list the images have them.

    Small annotations are read first, and no more once all images are found: those of training images may be large.
    Annotations that cannot be read do not hinder predicting; a note says why.
    """
    listed: dict[str, ImageId] = {}
    if section.source != FILES:
        return listed, {}, []
    found: dict[Source, FoundBoxes] = {}
    try:
        named = sources(section)
        for source in sorted(named, key=lambda each: each.path.stat().st_size):
            labels = str(source.path) if source.split is None else {source.split: str(source.path)}
            found[source] = read_boxes(replace(section, labels=labels), Findings())
            ids = {os.path.realpath(each.place): each.image_id for each in found[source].samples}
            listed |= {file: number for file, number in ids.items() if file in files and number is not None}
            if len(listed) == len(files):
                break
        numbered = [(str(each.path), found[each].categories) for each in named if each in found]
        return listed, join_categories(numbered)[0], []
    except UserError as error:
        return {}, {}, [f"no ids of images are taken from the annotations: {error}"]


def _of_name(place: str) -> ImageId:
    stem = Path(place).stem
    return int(stem) if stem.isdecimal() else stem


def _refuse_shared(image_ids: Mapping[str, ImageId]) -> None:
    owners: dict[ImageId, str] = {}
    for name, image_id in image_ids.items():
        if (other := owners.setdefault(image_id, name)) != name:
            raise UserError(
                f"{other} and {name}: both would have the image_id {image_id}; name the one file of annotations that "
                "results are to be compared with, by data.labels=FILE, and the images of that one alone, or write "
                "--out FILE.jsonl"
            )


def _category_ids(section: Section, classes: Sequence[str], categories: Mapping[str, CategoryId]) -> list[CategoryId]:
    """The number of each class in the annotations that are named; where they lack it, that of the run."""
    own = section.category_ids or range(1, len(classes) + 1)
    numbers = [categories.get(name, number) for name, number in zip(classes, own, strict=True)]
    for index, number in enumerate(numbers):
        if number in numbers[:index]:
            raise UserError(
                f"{section.named()}: gives {classes[numbers.index(number)]} the number {number}, which in the run "
                f"{classes[index]} has; list both in the annotations, or write --out FILE.jsonl"
            )
    return numbers
