"""What a network says of an expression, for tables and pictures."""

from __future__ import annotations

import math

import numpy as np

from vision_train.errors import UserError
from vision_train.previews import BoxesOnImage
from vision_train.tasks.grounding.results import Corners
from vision_train.tasks.predicted import CsvRows, Predicted

COLUMNS = ("text", "left", "top", "right", "bottom", "confidence")
"""Columns of the csv for an expression; the image stands before them."""


def predicted_box(name: str, text: str, box: Corners, confidence: float) -> Predicted:
    """The box of an expression.

    Args:
        name: Id of the expression.
        text: The expression.
        box: 4, in pixels of the original image.
        confidence: In (0, 1]; NaN without a quantised head.

    Raises:
        UserError: The box is not finite.
    """
    if not np.isfinite(box).all():
        raise UserError(
            f"{name}: the network finds a box that is not finite; predict with trainer.precision=32, or with another "
            "run"
        )
    sides = [round(float(side), 3) for side in box]
    said = None if math.isnan(confidence) else round(confidence, 6)
    row = {"text": text, "box": sides} | ({} if said is None else {"confidence": said})
    scores = None if said is None else np.array([confidence])
    drawing = BoxesOnImage(box[None], np.zeros(1, dtype=np.int64), [text], scores)
    cells = CsvRows(COLUMNS, [(text, *sides, "" if said is None else said)])
    return Predicted(name, row, drawing, cells, sentence=_sentence(text, sides, said))


def _sentence(text: str, sides: list[float], confidence: float | None) -> str:
    """What the csv says of the expression, in words."""
    places = ", ".join(f"{name} {side:.1f}" for name, side in zip(COLUMNS[1:5], sides, strict=True))
    return f"“{text}”: {places} pixels" + ("" if confidence is None else f", confidence {confidence:.2f}")
