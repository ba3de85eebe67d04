"""Tables laid out for a page: which columns are numbers, and how each cell is written."""

from __future__ import annotations

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

    Columns of numbers are aligned to the right; those that the table calls shares get a bar in each cell. A value may
    be a :class:`Cell`.
    """
    kinds = [
        _kind([row[index] for row in table.rows if index < len(row)], heading in table.shares)
        for index, heading in enumerate(table.columns)
    ]
    columns = [Column(heading, kind != "text") for heading, kind in zip(table.columns, kinds, strict=True)]
    return Grid(columns, [[_cell(value, kind) for value, kind in zip(row, kinds, strict=False)] for row in table.rows])


def _kind(values: Sequence[Any], is_share: bool) -> str:
    known = [value.value if isinstance(value, Cell) else value for value in values if value is not None]
    if not known or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return "text"
    return "share" if is_share else "number"


def _cell(value: Any, kind: str) -> Cell:
    if isinstance(value, Cell):
        return value
    if kind == "text" or value is None:
        return Cell(format_cell(value))
    if kind == "number" or not 0 <= value <= 1:
        return Cell(format_cell(value), value)
    return Cell(f"{value:.3f}", value, share=True)
