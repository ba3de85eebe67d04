"""Artefacts as parts of a page, by their type alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from vision_train.artefacts import Artefact, Curve, ImageGrid, Matrix, SeedValues, Table
from vision_train.report.charts import Line, LineChart, Mark, Strip, StripChart
from vision_train.report.formats import FORMATS
from vision_train.report.heatmap import matrix_block
from vision_train.report.line_chart import line_chart
from vision_train.report.rendering import image_source, render
from vision_train.report.strip_chart import strip_chart
from vision_train.statistics import mean_interval

TINY = 96
"""Pictures of up to this many pixels a side are enlarged with sharp pixels; larger ones are photographs."""
LARGEST = 320
"""Longer side of an embedded picture, in pixels."""


@dataclass(frozen=True)
class Picture:
    """A picture with its caption, as templates show it."""

    source: str
    """Address that holds the picture whole."""
    caption: str
    tiny: bool = False
    """Enlarged with sharp pixels."""

    @property
    def alternative(self) -> str:
        """What stands for it where it cannot be seen."""
        return " ".join(self.caption.split()) or "picture without a caption"


def artefact_block(artefact: Artefact) -> Markup | None:
    """Markup of one artefact; None if it is of a type that this module does not know."""
    if isinstance(artefact, Table):
        return render("table.html", content=artefact)
    if isinstance(artefact, Curve):
        return line_chart(curve_chart(artefact))
    if isinstance(artefact, Matrix):
        return matrix_block(artefact)
    if isinstance(artefact, SeedValues):
        return strip_chart(seed_chart(artefact))
    return image_grid_block(artefact) if isinstance(artefact, ImageGrid) else None


def curve_chart(curve: Curve) -> LineChart:
    """A chart; over the unit square if all its values are shares."""
    lines = [
        Line(name, curve.x_of.get(name, curve.x), values, scattered=name in curve.scattered)
        for name, values in curve.lines.items()
    ]
    values = [value for line in lines for value in (*line.x, *line.y) if value == value]
    shares = bool(values) and all(0 <= value <= 1 for value in values)
    return LineChart(
        curve.title,
        lines,
        curve.x_label,
        remark=curve.note,
        y_label=curve.y_label,
        counts=list(zip(curve.x, curve.counts, strict=True)) if curve.counts else (),
        marks=[Mark(x, y, text) for text, (x, y) in curve.marks.items()],
        unit_square=shares,
        same_range=curve.same_range,
        last_values=False,
    )


def seed_chart(found: SeedValues) -> StripChart:
    """A strip for each arm: its seeds, their mean, and the 95 % interval of that where there are several."""
    shares = found.format == "percent"
    strips = [
        Strip(
            name,
            values,
            float(np.mean(values)),
            mean_interval(values, shares=shares) if len(values) > 1 else None,
            colour,
        )
        for colour, (name, values) in enumerate(found.values.items())
    ]
    return StripChart(found.title, strips, found.label, FORMATS[found.format], found.note, bounded=shares)


def image_grid_block(grid: ImageGrid) -> Markup:
    """Pictures with their captions."""
    captions = [*grid.captions, *[""] * len(grid.images)]
    items = [picture(pixels, caption) for pixels, caption in zip(grid.images, captions, strict=False)]
    style = "wide" if all(pixels.shape[1] > 1.5 * pixels.shape[0] for pixels in grid.images) else ""
    return render("image_grid.html", title=grid.title, items=items, style=style, note=grid.note)


def picture(pixels: np.ndarray, caption: str, largest: int = LARGEST) -> Picture:
    """Pixels (H W 3, uint8) as a picture of at most ``largest`` pixels in height and twice as many in width."""
    image = Image.fromarray(pixels)
    if max(image.size) <= TINY:
        return Picture(image_source(image), caption, tiny=True)
    image.thumbnail((2 * largest, largest))
    return Picture(image_source(image, "JPEG", quality=85), caption)


def blocks_of(artefacts: Sequence[Artefact], kind: type) -> list[Markup]:
    """Blocks of the artefacts of one type, in order."""
    blocks = (artefact_block(artefact) for artefact in artefacts if isinstance(artefact, kind))
    return [block for block in blocks if block]
