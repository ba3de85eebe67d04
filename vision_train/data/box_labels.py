"""Boxes that a run has given its pool between phases, read from their file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vision_train.data.pseudo_labels import REMEDY
from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.files import printable, unescape_name
from vision_train.semi.box_labels import OF_IMAGE, BoxLabel, LabelledBox

PLACE = ("x", "y", "width", "height")


def read_box_labels(path: Path) -> list[BoxLabel]:
    """Those of :func:`all_box_labels` that are kept."""
    return [label for label in all_box_labels(path) if label.kept]


def all_box_labels(path: Path) -> list[BoxLabel]:
    """Read boxes as ``write_pseudo_labels`` wrote them, or a table of ``path,label,x,y,width,height`` alone.

    A row without a label is an image without boxes; an image without a row is not learnt from. What is said of an image
    rather than of a box is the same in all of its rows.

    Returns:
        All of them, in the order of the file.

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
    return [
        _label_of(name, of_image, [box for box in boxes if box is not None])
        for name, (of_image, boxes) in found.items()
    ]


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
