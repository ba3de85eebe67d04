"""Artefacts as parts of the page, by their type alone."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from vision_train.artefacts import Artefact, Curve, ImageGrid, Matrix, Table
from vision_train.report.charts import Line, line_chart
from vision_train.report.heatmap import matrix_block
from vision_train.report.page import block, breakable, escape, table

TINY = 96
"""Pictures of up to this many pixels a side are enlarged with sharp pixels; larger ones are photographs."""
LARGEST = 320
"""Longer side of an embedded picture, in pixels."""


def artefact_block(artefact: Artefact) -> str:
    """Markup of one artefact; results of single items have none."""
    if isinstance(artefact, Table):
        return table(artefact.title, artefact.columns, artefact.rows, artefact.note)
    if isinstance(artefact, Curve):
        return curve_block(artefact)
    if isinstance(artefact, Matrix):
        return matrix_block(artefact)
    return image_grid_block(artefact) if isinstance(artefact, ImageGrid) else ""


def curve_block(curve: Curve) -> str:
    """A chart; over the unit square if all its values are shares."""
    lines = [Line(name, curve.x, values) for name, values in curve.lines.items()]
    values = [value for line in lines for value in (*line.x, *line.y) if value == value]
    shares = bool(values) and all(0 <= value <= 1 for value in values)
    return line_chart(
        curve.title,
        lines,
        curve.x_label,
        remark=curve.note,
        y_label=curve.y_label,
        unit_square=shares,
        last_values=False,
    )


def image_grid_block(grid: ImageGrid) -> str:
    """Pictures with their captions."""
    captions = [*grid.captions, *[""] * len(grid.images)]
    items = "".join(_picture(pixels, caption) for pixels, caption in zip(grid.images, captions, strict=False))
    wide = all(pixels.shape[1] > 1.5 * pixels.shape[0] for pixels in grid.images)
    style = "pictures wide" if wide else "pictures"
    return block(grid.title, f'<ul class="{style}">{items}</ul>', grid.note) if items else ""


def _picture(pixels: np.ndarray, caption: str) -> str:
    image = Image.fromarray(pixels)
    tiny = max(image.size) <= TINY
    buffer = io.BytesIO()
    if tiny:
        image.save(buffer, format="PNG", optimize=True)
    else:
        image.thumbnail((2 * LARGEST, LARGEST))
        image.save(buffer, format="JPEG", quality=85)
    source = f"data:image/{'png' if tiny else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    style = ' class="tiny"' if tiny else ""
    alternative = escape(" ".join(caption.split()) or "picture without a caption")
    return (
        f'<li><figure><img{style} src="{source}" alt="{alternative}"><figcaption>{breakable(caption)}</figcaption>'
        "</figure></li>"
    )
