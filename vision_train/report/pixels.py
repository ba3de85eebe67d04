"""Artefacts as pixels, for places that show pictures and no pages."""

from __future__ import annotations

import io
from types import ModuleType

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vision_train.artefacts import Artefact, Curve, ImageGrid, Matrix
from vision_train.previews import Pixels
from vision_train.report.drawing import fitted
from vision_train.report.plot import COLOURS, GRID, STYLES

SIDE = 320
"""Sides of the square in which a single picture of a grid is shown, in pixels."""
MOST_CELLS = 400
"""Cells of a matrix up to which the counts are written in."""


def pictures_of(artefact: Artefact, extension: ModuleType | None = None) -> list[tuple[str, Pixels]]:
    """Captions and pictures (H W 3, uint8) of an artefact; none of one that is no picture, such as a table.

    Args:
        artefact: What a task handed to its run.
        extension: What draws the artefacts of a kind of data; its ``pictures``, if it has one, does what this does.
    """
    if isinstance(artefact, ImageGrid):
        captions = [*artefact.captions, *[artefact.title] * len(artefact.images)]
        shown = [np.asarray(fitted(Image.fromarray(pixels), SIDE, SIDE)) for pixels in artefact.images]
        return [(" ".join(text.split()), pixels) for text, pixels in zip(captions, shown, strict=False)]
    if isinstance(artefact, Curve):
        return [(artefact.title, _curve(artefact))]
    if isinstance(artefact, Matrix):
        return [(artefact.title, _matrix(artefact))]
    drawn: list[tuple[str, Pixels]] = getattr(extension, "pictures", lambda _: [])(artefact)
    return drawn


def _curve(curve: Curve) -> Pixels:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(curve.lines.items()):
        colour, (style, _) = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
        shape = "." if name in curve.scattered else style  # points alone, or a line
        axes.plot(curve.x_of.get(name, curve.x), values, shape, color=colour, label=name)
    for name, (x, y) in curve.marks.items():
        axes.plot(x, y, "o", color="black", label=name)
    axes.set(xlabel=curve.x_label, ylabel=curve.y_label)
    axes.grid(color=GRID)
    if len(curve.lines) + len(curve.marks) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _finished(figure, axes, curve.title)


def _matrix(matrix: Matrix) -> Pixels:
    values = np.asarray(matrix.values, dtype=float)
    side = min(3 + 0.35 * max(values.shape), 14)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(values, cmap="Blues")
    axes.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(matrix.rows)), matrix.rows, fontsize=7)
    axes.set(xlabel=matrix.column_label, ylabel=matrix.row_label)
    if values.size <= MOST_CELLS:
        half = values.max(initial=0) / 2
        for (row, column), value in np.ndenumerate(values):
            ink = "white" if value > half else "black"
            axes.text(column, row, f"{value:g}", ha="center", va="center", fontsize=7, color=ink)
    return _finished(figure, axes, matrix.title)


def _finished(figure: Figure, axes: Axes, title: str) -> Pixels:
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return np.asarray(Image.open(buffer).convert("RGB"))
