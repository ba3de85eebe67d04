"""What a task says of a sample that it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vision_train.wording import percent


@dataclass(frozen=True)
class CsvRows:
    """The rows of one sample in a csv: none, one or several."""

    columns: tuple[str, ...]
    """The same for all samples."""
    rows: Sequence[Sequence[Any]]
    """Each with a value for every column."""


def class_shares(classes: Sequence[str], shares: Sequence[float]) -> dict[str, Any]:
    """The row of a csv for a sample of one class: label, confidence, and the probability of every class.

    Args:
        classes: K names, in the order of the labels.
        shares: K probabilities.
    """
    likely = max(range(len(classes)), key=lambda place: shares[place])
    return named_shares({"label": classes[likely], "confidence": shares[likely]}, classes, shares)


def named_shares(row: Mapping[str, Any], classes: Sequence[str], shares: Sequence[float]) -> dict[str, Any]:
    """A row of a csv with the probability of every class behind it.

    Args:
        row: Columns to values. A class of the same name as one is called `class NAME`.
        classes: K names.
        shares: K probabilities.
    """
    named = zip(classes, shares, strict=True)
    return {**row, **{f"class {name}" if name in row else name: share for name, share in named}}


def likely_classes(top: Mapping[str, float]) -> str:
    """Classes with their probabilities, in words."""
    return ", ".join(f"{name} {percent(share, 1)}" for name, share in top.items())


@dataclass(frozen=True)
class Predicted:
    """What a task says of one sample."""

    id: str
    row: dict[str, Any]
    """Its line in a table of JSON lines."""
    drawing: Any = None
    """What its picture shows: ``previews.Bars`` or ``BoxesOnImage``, a function from the original pixels (H W 3,
    uint8) to those of the picture, or what the kind of data knows to draw; None for no picture."""
    cells: dict[str, Any] | CsvRows = field(default_factory=dict)
    """Its row in a csv, where that holds other columns than the numbers and texts of ``row``; or its rows."""
    results: Any = None
    """What a file of results holds of it, for the kind of data whose field has such files (``KindOfData.results``)."""
    sentence: str = ""
    """The same for a reader who asked about this sample, on one line; empty where a table tells it."""
