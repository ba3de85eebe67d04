"""Boxes that a run has given its pool between phases: read from their file, as truths of images, as batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from augment.detection import erase
from augment.geometry import View
from vision_train.data.annotated_images import refused_image
from vision_train.data.boxes.dataset import original_pixels
from vision_train.data.boxes.two_views import Views, collated
from vision_train.data.dataset import Batch, OnBad, SampleDataset
from vision_train.data.pseudo_labels import REMEDY
from vision_train.data.sample import ImageSample
from vision_train.data.sampler import Position
from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.files import printable, unescape_name
from vision_train.seeds import derive_seed
from vision_train.semi.box_labels import OF_IMAGE, BoxLabel, LabelledBox

PLACE = ("x", "y", "width", "height")


def read_box_labels(path: Path) -> list[BoxLabel]:
    """Read boxes as ``write_pseudo_labels`` wrote them, or a table of ``path,label,x,y,width,height`` alone.

    A row without a label is an image without boxes; an image without a row is not learnt from. What is said of an image
    rather than of a box is the same in all of its rows.

    Returns:
        Those that are kept, in the order of the file.

    Raises:
        UserError: The file is absent or no such table; the message names the line.
    """
    if not path.is_file():
        raise UserError(f"data.pseudo_labels {path}: no such file; {REMEDY}")
    found: dict[str, tuple[dict[str, str], list[LabelledBox | None]]] = {}
    for line, row in read_table(path).rows_with("path", "label", *PLACE, filled=False):
        try:
            box, of_image = _box_of(row), {name: text for name, text in row.items() if _is_of_image(name)}
            label = _label_of(unescape_name(row["path"]), of_image, ())
            before, boxes = found.setdefault(label.id, (of_image, []))
            if before != of_image:
                raise ValueError("kept, round or a score of the image differs from its rows above")
            if boxes and (box is None or None in boxes):
                raise ValueError("the image has a row without a label, which says that it has no boxes, and another")
            boxes.append(box)
        except ValueError as error:
            place = f"data.pseudo_labels {path} line {line}: {printable(row['path'])}"
            raise UserError(f"{place}: {error}; {REMEDY}") from error
    labels = [
        _label_of(name, of_image, [box for box in boxes if box is not None])
        for name, (of_image, boxes) in found.items()
    ]
    return [label for label in labels if label.kept]


def _is_of_image(column: str) -> bool:
    return column in ("kept", "round") or column.startswith(OF_IMAGE)


def _label_of(name: str, of_image: Mapping[str, str], boxes: Sequence[LabelledBox]) -> BoxLabel:
    scores = {column.removeprefix(OF_IMAGE): text for column, text in of_image.items() if column.startswith(OF_IMAGE)}
    return BoxLabel(
        name,
        "",
        kept=(of_image.get("kept") or "1") != "0",
        round=int(of_image.get("round") or 0),
        votes={},
        scores={column: float(text or "nan") for column, text in scores.items()},
        boxes=tuple(boxes),
    )


def _box_of(row: Mapping[str, str]) -> LabelledBox | None:
    """The box of a row; None where the row says that there is none.

    Raises:
        ValueError: Its numbers are none, or out of range.
    """
    if not row["label"]:
        return None
    x, y, width, height = (float(row[name] or "nan") for name in PLACE)
    score, weight, share = (float(row.get(name) or 1) for name in ("score", "weight", "share"))
    if not (math.isfinite(x + y + width + height) and width > 0 and height > 0):
        raise ValueError(f"a box of x={x:g}, y={y:g}, width={width:g}, height={height:g} is none")
    if not (0 <= score <= 1 and 0 <= weight < math.inf and 0 <= share <= 1):
        raise ValueError(f"a score of {score:g}, a weight of {weight:g} or a share of {share:g} is out of range")
    return LabelledBox(row["label"], (x, y, x + width, y + height), score, weight, share)


class PseudoBoxDataset(SampleDataset):
    """Reads one image at a time, makes a strong view of it, and says what networks have found in it.

    Args:
        samples: In their fixed order, each with a :class:`BoxLabel` as its truth.
        classes: Names of the classes; a class id is a place in this list.
        views: What is made of each; the weak view is not.
        seed: Of the run.
        on_bad: What an image that cannot be read does.
    """

    noun = "images"

    def __init__(
        self, samples: Sequence[ImageSample], classes: Sequence[str], views: Views, seed: int, on_bad: OnBad
    ) -> None:
        super().__init__(samples, on_bad)
        self.views, self.seed = views, seed
        self._index = {name: index for index, name in enumerate(classes)}

    def named(self, sample: ImageSample) -> str:
        """The path of its file, on one line."""
        return printable(sample.place or sample.id)

    def read(self, sample: ImageSample, position: Position) -> dict[str, Any]:
        """Decode one image and make a view of it."""
        index, turn = position
        whole = View.whole(original_pixels(sample))
        view = self.views.strong(whole, derive_seed(self.seed, "strong view", turn, index))
        random = np.random.default_rng(derive_seed(self.seed, "erasing", turn, index))
        return {"strong": (view, erase(view.image, random, self.views.erasing))}

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Pad the views to one size: ``strong``, as :meth:`TwoViewDataset.collate` has it."""
        return {"strong": collated([item["strong"] for item in items])}

    def collate_truth(self, truths: list[BoxLabel]) -> Batch:
        """What was found in each image, in pixels of the original.

        Returns:
            The lists ``scores``, ``class_ids``, ``boxes`` (n x 4, left, top, right, bottom) and ``weights`` (0 where
            there may be an object) of arrays; numbers that the host computes with stay off the device.
        """
        parts = [
            (
                np.array([box.score for box in each.boxes], dtype=np.float64),
                np.array([self._index[box.label] for box in each.boxes], dtype=np.int64),
                np.array([box.corners for box in each.boxes], dtype=np.float64).reshape(-1, 4),
                np.array([box.weight for box in each.boxes], dtype=np.float64),
            )
            for each in truths
        ]
        names = ("scores", "class_ids", "boxes", "weights")
        return {name: list(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about the first image that cannot be used."""
        return refused_image(bad, shared=shared)
