"""A labelled matrix as a heat map, and the list of what it confuses most."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from vision_train.artefacts import Matrix, Table
from vision_train.report.formats import format_number, format_percent
from vision_train.report.grid import Cell
from vision_train.report.rendering import as_markup, image_source, render

SMALL = 20
"""Matrices of up to this many rows and columns show every value and every label."""
SIDE = 460
"""Length of the longer side of the cells together, in the drawing's own units."""
LARGEST_CELL = 64
"""Largest side of a cell, in the drawing's own units; a matrix of few classes stays small."""
LABEL = 14
"""Labels longer than this are shortened; the full text is in their tooltip."""
LISTED = 12
"""Length of the list of the most frequent confusions."""


def matrix_block(matrix: Matrix) -> Markup:
    """Heat map of a matrix; beside it the largest cells off the diagonal, where rows and columns are the same things.

    Colour is a cell's share of its row, on a square-root scale so that rare confusions stay visible.
    """
    columns = [matrix.row_label, matrix.column_label, "count", f"share of {matrix.row_label}"]
    rows = [[*row, Cell(format_percent(share), share, share=True)] for *row, share in top_confusions(matrix)]
    confusions = Table("confusions", "Most frequent confusions", columns, rows)
    note = matrix.note or f"Colour: share of each row ({matrix.row_label}), square-root scale."
    return render("matrix.html", matrix=matrix, drawing=heat_map(matrix), note=note, confusions=confusions)


def top_confusions(matrix: Matrix, limit: int = LISTED) -> list[list[Any]]:
    """Largest cells off the diagonal: row, column, value and share of the row; none unless rows equal columns."""
    if matrix.rows != matrix.columns:
        return []
    values = _finite(matrix)
    wrong = values * (1 - np.eye(len(values)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    places = [divmod(int(flat), len(matrix.columns)) for flat in order if wrong.flat[flat] > 0]
    return [
        [matrix.rows[row], matrix.columns[column], float(wrong[row, column]), float(_shares(values)[row, column])]
        for row, column in places
    ]


def heat_map(matrix: Matrix) -> Markup:
    """The matrix as SVG: numbered cells if it is small, else one pixel a cell."""
    rows, columns = len(matrix.rows), len(matrix.columns)
    if not rows or not columns:
        return Markup()
    cell = min(SIDE / max(rows, columns), LARGEST_CELL)
    width, height = cell * columns, cell * rows
    small = max(rows, columns) <= SMALL
    left = 40 + 7 * min(LABEL, max(map(len, matrix.rows)))
    upright = small and max(map(len, matrix.columns)) * 7 < cell
    bottom = 40 if upright else 34 + 5 * min(LABEL, max(map(len, matrix.columns)))
    shares = _shares(_finite(matrix))
    body = _cells(matrix, shares, cell) if small else _pixels(matrix, shares, width, height)
    return render(
        "heat_map.html",
        # One unit is at most one pixel: text is as large as in the charts, however wide the page.
        view=(-left, -4, round(width + left + 8), round(height + bottom + 8)),
        size=(width, height),
        label=f"{matrix.title}: {rows} by {columns}, {matrix.row_label} down, {matrix.column_label} across",
        across=(matrix.column_label, height + bottom),
        down=(matrix.row_label, 14 - left),
        body=as_markup(body),
        labels=as_markup(_labels(matrix, cell, upright)),
    )


def _finite(matrix: Matrix) -> np.ndarray:
    return np.nan_to_num(np.asarray(matrix.values, dtype=float), posinf=0.0, neginf=0.0)


def _shares(values: np.ndarray) -> np.ndarray:
    totals = np.abs(values).sum(axis=1, keepdims=True)
    return np.abs(values) / np.where(totals > 0, totals, 1)


def _is_hit(matrix: Matrix, row: int, column: int) -> bool:
    """Whether a cell is agreement; without a diagonal that means something, all cells are."""
    return matrix.rows != matrix.columns or row == column


def _cells(matrix: Matrix, shares: np.ndarray, cell: float) -> str:
    parts = []
    for (row, column), share in np.ndenumerate(shares):
        value = matrix.values[row][column]
        x, y = column * cell, row * cell
        style = "hit" if _is_hit(matrix, row, column) else "miss"
        strength = math.sqrt(share)
        if share > 0:
            parts.append(
                f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
                f'fill-opacity="{strength:.3f}"><title>{escape(matrix.rows[row])} → {escape(matrix.columns[column])}: '
                f"{format_number(value)} ({100 * share:.1f} %)</title></rect>"
            )
        ink = "zero" if value == 0 else f"on-{style}" if strength > 0.6 else ""
        parts.append(
            f'<text class="cell {ink}" x="{x + cell / 2:.1f}" y="{y + cell / 2:.1f}">{format_number(value)}</text>'
        )
    return "".join(parts)


def _pixels(matrix: Matrix, shares: np.ndarray, width: float, height: float) -> str:
    """Two masks, filled with the page's colours for agreement and confusion, so that they follow light and dark."""
    strength = np.sqrt(shares)
    visible = np.where(shares > 0, 0.15 + 0.85 * strength, 0.0)
    hits = np.ones_like(shares) if matrix.rows != matrix.columns else np.eye(len(shares))
    parts = []
    for style, layer in (("hit", visible * hits), ("miss", visible * (1 - hits))):
        area = f'width="{width:.1f}" height="{height:.1f}"'
        name = f"mask-{style}-{escape(matrix.name)}"
        parts.append(
            f'<mask id="{name}" style="mask-type:luminance"><image {area} preserveAspectRatio="none" '
            f'href="{_grey_png(layer)}"/></mask><rect class="{style}" {area} mask="url(#{name})"/>'
        )
    return "".join(parts)


def _grey_png(layer: np.ndarray) -> str:
    return image_source(Image.fromarray(np.round(255 * layer).astype(np.uint8)))


def _labels(matrix: Matrix, cell: float, upright: bool) -> str:
    """Names of rows and columns; where there are many, as many as can be read."""
    every = max(1, math.ceil(15 / cell))
    every_column = max(1, math.ceil(22 / cell))
    parts = []
    for index in range(0, len(matrix.rows), every):
        parts.append(_label(matrix.rows[index], f'x="-8" y="{(index + 0.5) * cell + 4:.1f}" text-anchor="end"'))
    foot = len(matrix.rows) * cell
    for index in range(0, len(matrix.columns), every_column):
        x = (index + 0.5) * cell
        if upright:
            place = f'x="{x:.1f}" y="{foot + 18:.1f}" text-anchor="middle"'
        else:
            place = f'transform="translate({x + 4:.1f} {foot + 12:.1f}) rotate(-45)" text-anchor="end"'
        parts.append(_label(matrix.columns[index], place))
    return "".join(parts)


def _label(text: str, place: str) -> str:
    shown = text if len(text) <= LABEL else text[: LABEL - 1] + "…"
    return f"<text {place}>{escape(shown)}<title>{escape(text)}</title></text>"
