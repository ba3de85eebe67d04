"""Charts as data: what is drawn as SVG on a page and by matplotlib into a file is described once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vision_train.report.formats import NumberFormat, format_number

COLOURS = 6
"""Colours of lines and strips; further ones begin again with the first."""


@dataclass(frozen=True)
class Line:
    """Values over x; a value that is not finite leaves a gap and a mark."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int | None = None
    """Which of the page's line colours to take; by default the line's place in the chart decides."""
    spread: tuple[Sequence[float], Sequence[float]] | None = None
    """Lower and upper values around y, such as an interval of each; NaN where there is none."""
    scattered: bool = False
    """Draw the points alone, as nothing joins them; x need not ascend."""
    dots: Sequence[tuple[float, float]] = ()
    """Single values (x, y) that the line is the mean of; drawn by matplotlib alone."""


@dataclass(frozen=True)
class Mark:
    """A point with a name, such as the threshold on a curve."""

    x: float
    y: float
    text: str
    colour: int = 0


@dataclass(frozen=True)
class LineChart:
    """Lines over a common x axis."""

    title: str
    lines: Sequence[Line]
    """Each with x ascending. They need not share their x values."""
    x_label: str
    """What x counts, such as ``epoch``."""
    written: NumberFormat = format_number
    """How values of y are written."""
    remark: str = ""
    """Small text below."""
    y_label: str = ""
    """What y measures, where the title does not say it."""
    x_range: tuple[float, float] | None = None
    """Ends of the x axis, for charts that are compared; by default those of the lines, or 0 if it is near."""
    y_range: tuple[float, float] | None = None
    """What the y axis covers, for charts that are compared; by default what the lines do."""
    bounded: bool = False
    """Whether all values of y lie in [0, 1], which the axis then never leaves."""
    counts: Sequence[tuple[float, int]] = ()
    """How many items are behind each x, as bars below the lines."""
    marks: Sequence[Mark] = ()
    """Single points that have a name."""
    unit_square: bool = False
    """Show exactly [0, 1] on both axes, for shares against shares."""
    same_range: bool = False
    """Let both axes cover the same range, for values of one quantity against one another: what agrees is on the
    diagonal."""
    last_values: bool = True
    """Give each line's last value in the legend, where the end is what the line leads to."""


@dataclass(frozen=True)
class Strip:
    """One arm: the value of each run, their mean, and its interval if they have one."""

    name: str
    values: Sequence[float]
    mean: float
    interval: tuple[float, float] | None
    colour: int


@dataclass(frozen=True)
class StripChart:
    """Strips one below another over a common axis."""

    title: str
    strips: Sequence[Strip]
    """At least one, each with a value."""
    x_label: str
    """What the axis measures."""
    written: NumberFormat
    """How means are written."""
    remark: str = ""
    """Small text below."""
    bounded: bool = False
    """Whether all values lie in [0, 1], which the axis then never leaves."""
    difference: bool = False
    """Whether values are differences, so that the axis shows 0."""
