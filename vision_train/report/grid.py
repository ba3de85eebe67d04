"""Tables laid out for a page: which columns are numbers, and how each cell is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vision_train.artefacts import Table
from vision_train.report.formats import format_cell


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text."""

    text: str
    value: float | None = None
    """The number that the text stands for; the column sorts by it."""
    fault: bool = False
    """Coloured, so that it is not overlooked."""
    href: str = ""
    """Relative address that the text leads to."""
    share: bool = False
    """Shown with a bar as long as the value, in [0, 1]."""


@dataclass(frozen=True)
class Column:
    """A column with one cell a row."""

    heading: str
    is_number: bool


@dataclass(frozen=True)
class Grid:
    """A table whose cells are all written."""

    columns: list[Column]
    rows: list[list[Cell]]


def grid_of(table: Table) -> Grid:
    """Write the cells of a table.

    Columns of numbers are aligned to the right; a column of three or more shares (fractions in [0, 1]) gets a bar
    in each cell. A value may be a :class:`Cell`.
    """
    kinds = [_kind([row[index] for row in table.rows if index < len(row)]) for index in range(len(table.columns))]
    columns = [Column(heading, kind != "text") for heading, kind in zip(table.columns, kinds, strict=True)]
    return Grid(columns, [[_cell(value, kind) for value, kind in zip(row, kinds, strict=False)] for row in table.rows])


def _kind(values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    if any(isinstance(value, Cell) for value in known):
        known = [value.value if isinstance(value, Cell) else value for value in known]
        return "text" if any(value is None or isinstance(value, str) for value in known) else "number"
    if not known or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return "text"
    shares = len(known) > 2 and any(isinstance(value, float) for value in known)
    return "share" if shares and all(math.isnan(value) or 0 <= value <= 1 for value in known) else "number"


def _cell(value: Any, kind: str) -> Cell:
    if isinstance(value, Cell):
        return value
    if kind == "text" or value is None:
        return Cell(format_cell(value))
    if kind == "number" or math.isnan(value):
        return Cell(format_cell(value), value)
    return Cell(f"{value:.3f}", value, share=True)
