"""Line charts as inline SVG: sharp at any size, light and dark by the page's colours, readable without scripts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape

from vision_train.report.charts import COLOURS, Line, LineChart, Mark
from vision_train.report.formats import NumberFormat, format_number, format_percent
from vision_train.report.rendering import as_markup, render

WIDTH = 480
LEFT, RIGHT, TOP = 56, 468, 10
LOW, HIGH = 212, 352
"""Lower end of the axes in pixels: of charts, and of those whose axes have one range, which are nearly square."""
BELOW = 38
"""Room for the labels of the x axis."""
LEAST_SPAN, LEAST_SHARE = 0.3, 0.1
"""What the y axis covers at least: of the largest value, and of shares. Less would show noise as a change."""
BARS = 0.22
"""Height of the tallest bar of counts, of the chart's."""
MAX_POINTS = 240
"""More points than this are joined into means; the page stays small and the line readable."""
SAMPLE = 4
"""Radius of a point that stands for a sample of its own."""
MAX_DOTS = 40
"""Lines of up to this many points show each of them."""


@dataclass(frozen=True)
class Scale:
    """Linear map from data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixels of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(chart: LineChart) -> Markup:
    """Draw lines with a legend; its values follow the pointer.

    Returns:
        A ``figure``; nothing if no line has a point.
    """
    # The pointer reads values off lines, which come first; there are none between points that nothing joins.
    lines = sorted((line for line in chart.lines if len(line.x)), key=lambda line: line.scattered)
    written = chart.written
    if not lines:
        return Markup()
    bottom = HIGH if chart.unit_square or chart.same_range else LOW
    counted = not chart.unit_square and all(value == round(value) for line in lines for value in line.x)
    x_range, y_range = _ranges(chart, lines)
    x_scale = Scale(*x_range, LEFT, RIGHT)
    y_ticks = ticks(*y_range)
    y_scale = Scale(y_ticks[0], y_ticks[-1], bottom, TOP)
    # There is no half of an epoch.
    x_ticks = [tick for tick in ticks(x_scale.low, x_scale.high) if not counted or tick == round(tick)]
    thinned = [thin(line) for line in lines]
    ends = "; ".join(
        f"{len(line.x)} points of {line.name}" if line.scattered else f"{line.name} ends at {_last(line, written)}"
        for line in lines
    )
    drawn = [_draw(index, line, band, x_scale, y_scale) for index, (line, band) in enumerate(thinned)]
    body = [
        _bars(chart.counts, x_scale, y_scale),
        _axes(x_scale, y_scale, x_ticks, y_ticks, chart.x_label, written),
        _upright(chart.y_label, bottom),
        *drawn,
        *(_mark(mark, x_scale, y_scale) for mark in chart.marks),
    ]
    return render(
        "line_chart.html",
        chart=chart,
        hover_data=_hover_data(thinned, x_scale, chart.x_label, written),
        keys=[(line.name, _colour(index, line), _last(line, written)) for index, line in enumerate(lines)],
        last_x=f"{chart.x_label} {format_number(round(max(line.x[-1] for line in lines), 2))}",
        size=(WIDTH, bottom + BELOW),
        cursor=(LEFT, TOP, bottom),
        summary=f"{chart.title} by {chart.x_label}: {ends}",
        body=Markup().join(body),
    )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers, about ``count`` of them, whose first and last enclose the range."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def thin(line: Line, limit: int = MAX_POINTS) -> tuple[Line, tuple[np.ndarray, np.ndarray] | None]:
    """Join neighbouring points into means until at most ``limit`` are left.

    Returns:
        The line, and the smallest and largest value behind each of its points, or its own spread if it was short
        enough. A mean over a value that is not finite is NaN: a gap is never hidden.
    """
    if len(line.x) <= limit or line.scattered:
        return line, None if line.spread is None else (np.asarray(line.spread[0]), np.asarray(line.spread[1]))
    groups = np.array_split(np.arange(len(line.x)), range(width := -(-len(line.x) // limit), len(line.x), width))
    x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
    y = np.where(np.isfinite(y), y, np.nan)
    means = [(float(x[group].mean()), float(y[group].mean())) for group in groups]
    band = np.array([y[group].min() for group in groups]), np.array([y[group].max() for group in groups])
    return replace(line, x=[at for at, _ in means], y=[mean for _, mean in means]), band


def _ranges(chart: LineChart, lines: Sequence[Line]) -> tuple[tuple[float, float], tuple[float, float]]:
    """What the axes cover."""
    xs = [value for line in lines for value in line.x]
    ys = [value for line in lines for values in (line.y, *(line.spread or ())) for value in values]
    ys = [value for value in ys if math.isfinite(value)]
    if chart.unit_square or chart.same_range:
        both = (0.0, 1.0) if chart.unit_square else _common_range([*xs, *ys])
        return both, both
    bounded = chart.bounded or chart.written is format_percent
    return chart.x_range or _x_range(xs), chart.y_range or _y_range(ys, bounded)


def _x_range(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    low = 0.0 if 0 <= low < 0.1 * high else low
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _common_range(values: list[float]) -> tuple[float, float]:
    """What both axes cover where they show one quantity: all values, to the round numbers around them."""
    low, high = min(values), max(values)
    around = ticks(*((low, high) if high > low else (low - 0.5, low + 0.5)))
    return around[0], around[-1]


def _y_range(values: list[float], bounded: bool) -> tuple[float, float]:
    """What the y axis covers: from 0 unless all values are far from it, and never so little that noise fills it."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    bounded = bounded and 0 <= low <= high <= 1
    if 0 <= low < (0.5 if bounded else 0.7 * high):
        low = 0.0
    least = LEAST_SHARE if bounded else LEAST_SPAN * max(abs(low), abs(high)) or 1.0
    room = max(0.0, least - (high - low)) / 2
    low, high = low - room, high + room
    if not bounded:
        return low, high
    shift = max(0.0, -low) - max(0.0, high - 1.0)
    return max(low + shift, 0.0), min(high + shift, 1.0)


def _last(line: Line, written: NumberFormat) -> str:
    return next((written(value) for value in reversed(line.y) if math.isfinite(value)), "no finite value")


def _colour(index: int, line: Line) -> int:
    return (index if line.colour is None else line.colour) % COLOURS


def _bars(counts: Sequence[tuple[float, int]], x_scale: Scale, y_scale: Scale) -> Markup:
    """Bars of counts from the x axis up, each with its number."""
    most = max((count for _, count in counts), default=0)
    if not most:
        return Markup()
    gap = min((right - left for (left, _), (right, _) in pairwise(counts)), default=1.0)
    width = min(max(abs(x_scale(gap) - x_scale(0.0)) * 0.8, 4.0), 24.0)
    full, parts = BARS * (y_scale.start - y_scale.end), []
    for x, count in counts:
        height = full * count / most
        top = y_scale.start - height
        parts.append(
            f'<rect class="count" x="{x_scale(x) - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"/><text class="count" x="{x_scale(x):.1f}" y="{top - 3:.1f}" text-anchor="middle">'
            f"{format_number(count)}</text>"
        )
    return as_markup("".join(parts))


def _mark(mark: Mark, x_scale: Scale, y_scale: Scale) -> Markup:
    """A ring at a point, with its text on the side that has more room."""
    x, y = x_scale(mark.x), y_scale(mark.y)
    right = x < (LEFT + RIGHT) / 2
    place = f'x="{x + (9 if right else -9):.1f}" y="{min(y + 15, y_scale.start - 4):.1f}"'
    anchor = "start" if right else "end"
    return as_markup(
        f'<g class="series-{mark.colour % COLOURS}"><circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text class="mark" {place} text-anchor="{anchor}">{escape(mark.text)}</text></g>'
    )


def _axes(
    x_scale: Scale, y_scale: Scale, x_ticks: list[float], y_ticks: list[float], x_label: str, written: NumberFormat
) -> Markup:
    parts = []
    for tick in y_ticks:
        y = y_scale(tick)
        kind = "axis" if tick == y_ticks[0] else "grid"
        label = tick_label(tick, written)
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>')
    for tick in x_ticks:
        if x_scale.low - 1e-9 <= tick <= x_scale.high + 1e-9:
            place = f'x="{x_scale(tick):.1f}" y="{y_scale.start + 18:g}"'
            parts.append(f'<text {place} text-anchor="middle">{tick_label(tick)}</text>')
    parts.append(f'<text x="{RIGHT}" y="{y_scale.start + 34:g}" text-anchor="end">{escape(x_label)}</text>')
    return as_markup("".join(parts))


def _upright(label: str, bottom: int) -> Markup:
    middle = (TOP + bottom) / 2
    text = f'<text transform="translate(10 {middle}) rotate(-90)" text-anchor="middle">{escape(label)}</text>'
    return as_markup(text)


def tick_label(value: float, written: NumberFormat = format_number) -> str:
    """A round number at an axis whose values are ``written`` so."""
    if written is format_percent:
        return f"{round(100 * value, 6):g} %"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.6g}"


def _draw(index: int, line: Line, band: tuple[np.ndarray, np.ndarray] | None, x_scale: Scale, y_scale: Scale) -> Markup:
    points = [(x_scale(x), y_scale(y) if math.isfinite(y) else None) for x, y in zip(line.x, line.y, strict=True)]
    if line.scattered:
        dots = [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{SAMPLE}"/>' for x, y in points if y is not None]
        return as_markup(f'<g class="series-{_colour(index, line)}" fill-opacity="0.5">{"".join(dots)}</g>')
    strokes, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        strokes.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    parts = []
    if band is not None:
        parts.append(_spread(line, band, x_scale, y_scale))
    parts.append(f'<path class="curve" d="{"".join(strokes)}"/>')
    if len(points) <= MAX_DOTS:
        parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in points if y is not None]
    lost = "".join(f"M{x - 4:.1f} {TOP}l8 8m-8 0l8-8" for x, y in points if y is None)
    if lost:
        parts.append(f'<path class="lost" d="{lost}"><title>{escape(line.name)} is not finite here</title></path>')
    return as_markup(f'<g class="series-{_colour(index, line)}">{"".join(parts)}</g>')


def _spread(line: Line, band: tuple[np.ndarray, np.ndarray], x_scale: Scale, y_scale: Scale) -> str:
    corners = list(zip(line.x, band[1], strict=True)) + list(zip(reversed(line.x), band[0][::-1], strict=True))
    points = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in corners if math.isfinite(y))
    return f'<polygon class="spread" points="{points}"/>'


def _hover_data(
    thinned: Sequence[tuple[Line, tuple[np.ndarray, np.ndarray] | None]],
    x_scale: Scale,
    x_label: str,
    written: NumberFormat,
) -> str:
    lines = [
        {
            "x": [float(f"{x:.5g}") for x in line.x],
            "y": [float(f"{y:.5g}") if math.isfinite(y) else None for y in line.y],
        }
        for line, _ in thinned
        if not line.scattered
    ]
    frame = {"left": LEFT, "right": RIGHT, "low": x_scale.low, "high": x_scale.high}
    return json.dumps({"lines": lines, **frame, "unit": x_label, "percent": written is format_percent})
