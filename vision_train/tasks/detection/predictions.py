"""What a detector says of an image, for tables, pictures and files of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.detr.postprocess import Detections
from vision_train.errors import UserError
from vision_train.previews import BoxesOnImage
from vision_train.tasks.detection.results import Numbers
from vision_train.tasks.predicted import CsvRows, Predicted

COLUMNS = ("label", "category_id", "score", "threshold", "left", "top", "right", "bottom")
"""Columns of the csv for a box; the image stands before them."""


def image_detections(found: Detections, place: int) -> tuple[Numbers, np.ndarray, Numbers]:
    """Scores (K, falling), labels (K) and corners (K x 4) of one image of a batch."""
    scores, labels, corners = (each[place].detach().cpu().numpy() for each in found)
    return scores.astype(np.float64), labels.astype(np.int64), corners.astype(np.float64)


def predicted_boxes(
    name: str,
    found: tuple[Numbers, np.ndarray, Numbers],
    least: Numbers,
    classes: Sequence[str],
    category_ids: Sequence[int],
) -> Predicted:
    """All boxes of an image, and those with scores high enough to be shown.

    Args:
        name: Id of the image.
        found: As :func:`image_detections` returns.
        least: C, score from which on boxes of each class are shown.
        classes: C names.
        category_ids: C, the number of each class in the annotations.

    Raises:
        UserError: Scores or corners are not finite.
    """
    scores, labels, corners = found
    if not (np.isfinite(scores).all() and np.isfinite(corners).all()):
        raise UserError(
            f"{name}: the network finds boxes that are not finite; predict with trainer.precision=32, or with another "
            "run"
        )
    shown = np.flatnonzero(scores >= least[labels])
    rows = [
        (
            *(classes[labels[each]], category_ids[labels[each]], float(scores[each]), float(least[labels[each]])),
            *corners[each].tolist(),
        )
        for each in shown
    ]
    boxes = [
        {"label": label, "category_id": number, "score": round(score, 6), "box": [round(side, 3) for side in box]}
        for label, number, score, _, *box in rows
    ]
    return Predicted(
        name,
        {"boxes": boxes},
        BoxesOnImage(corners[shown], labels[shown], classes, scores[shown], least),
        CsvRows(COLUMNS, rows),
        BoxesOnImage(corners, labels, classes, scores),
        sentence=_sentence(rows),
    )


def _sentence(rows: Sequence[tuple[Any, ...]]) -> str:
    """The boxes that are shown, in words."""
    boxes = (
        f"{label} {score:.2f} at left {left:.0f}, top {top:.0f}, right {right:.0f}, bottom {bottom:.0f}"
        for label, _, score, _, left, top, right, bottom in rows
    )
    return "; ".join(boxes) or "no box whose score reaches the threshold of its class"
