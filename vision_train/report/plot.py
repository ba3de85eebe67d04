"""Two charts side by side as a PNG: levels at the left, differences at the right."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vision_train.report.charts import Line, LineChart, Strip, StripChart
from vision_train.report.fonts import families_for
from vision_train.report.formats import NumberFormat, format_percent

COLOURS = ("#2360c5", "#c2540a", "#1f7a46", "#7b3fbf", "#b02a58", "#0f7482")
"""The lines of the page."""
STYLES = (("-", "o"), ("--", "s"), (":", "^"))
"""Lines and marks; lines that have to share a colour are told apart by them."""
MUTED, GRID = "#59616b", "#eceef0"


@dataclass(frozen=True)
class StripRows:
    """Strips of one group of arms: the level of each, and the difference of those that have one."""

    title: str
    levels: StripChart
    differences: StripChart | None


def plot_lines(levels: LineChart, differences: LineChart, labels: tuple[str, str], note: str) -> bytes:
    """Draw lines over a common x axis.

    Args:
        levels: At the left.
        differences: At the right; lines keep their colours.
        labels: What the two y axes measure.
        note: Small text below.

    Returns:
        A PNG.
    """
    with _drawable(line.name for line in levels.lines):
        return _plotted_lines(levels, differences, labels, note)


def _plotted_lines(levels: LineChart, differences: LineChart, labels: tuple[str, str], note: str) -> bytes:
    figure = Figure(figsize=(10, 4 + 0.12 * len(levels.lines)), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, chart, label in zip(panels, (levels, differences), labels, strict=True):
        for index, line in enumerate(chart.lines):
            _line(axes, line, index if line.colour is None else line.colour)
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(label)
        axes.set_xticks(sorted({x for line in levels.lines for x in line.x}))
    left, right = panels
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    _write_as(left.yaxis, levels.written)
    if levels.bounded:
        left.set_ylim(*_within_bounds(left.get_ylim()))
    right.axhline(0.0, color=MUTED, linestyle="--", linewidth=0.8, zorder=1)
    return _finished(figure, panels, note)


def plot_strips(rows: Sequence[StripRows], labels: tuple[str, str], note: str) -> bytes:
    """Draw strips one below another, each beside that of its difference.

    Args:
        rows: At least one group with a strip.
        labels: What the two x axes measure.
        note: Small text below.

    Returns:
        A PNG.
    """
    with _drawable(strip.name for group in rows for strip in group.levels.strips):
        return _plotted_strips(rows, labels, note)


def _plotted_strips(rows: Sequence[StripRows], labels: tuple[str, str], note: str) -> bytes:
    figure = Figure(figsize=(10, 1.6 + 0.55 * sum(len(group.levels.strips) for group in rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    left, right = panels
    names: list[str] = []
    for group in rows:
        compared = {strip.name: strip for strip in group.differences.strips} if group.differences else {}
        for strip in group.levels.strips:
            _strip(left, len(names), strip)
            if strip.name in compared:
                _strip(right, len(names), compared[strip.name])
            names.append("\n".join(filter(None, (strip.name, group.title))))
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.4, -0.6)
    for axes, label in zip(panels, labels, strict=True):
        axes.set_xlabel(label)
    _write_as(left.xaxis, rows[0].levels.written)
    if rows[0].levels.bounded:
        left.set_xlim(*_within_bounds(left.get_xlim()))
    right.axvline(0.0, color=MUTED, linestyle="--", linewidth=0.8, zorder=1)
    return _finished(figure, panels, note)


def _drawable(names: Iterable[str]) -> AbstractContextManager[None]:
    """Let matplotlib fall back to fonts of the system for what its own lacks."""
    families = families_for(names)
    return rc_context({"font.family": ["DejaVu Sans", *families]}) if families else nullcontext()


def _write_as(axis: Any, written: NumberFormat) -> None:
    if written is format_percent:
        axis.set_major_locator(MaxNLocator(6))  # more of these labels would touch
        axis.set_major_formatter(PercentFormatter(1.0))


def _within_bounds(limits: tuple[float, float]) -> tuple[float, float]:
    """Limits of an axis of shares: the margin that matplotlib leaves does not go beyond what is possible."""
    return max(limits[0], 0.0), min(limits[1], 1.0)


def _finished(figure: Figure, panels: Sequence[Axes], note: str) -> bytes:
    for axes in panels:
        axes.grid(color=GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(note, fontsize=8, color=MUTED)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def _strip(axes: Axes, y: float, strip: Strip) -> None:
    colour = COLOURS[strip.colour % len(COLOURS)]
    if strip.interval:
        axes.plot(strip.interval, [y, y], color=colour, linewidth=9, alpha=0.22, solid_capstyle="butt")
    axes.plot([strip.mean, strip.mean], [y - 0.25, y + 0.25], color=colour, linewidth=2)
    heights = [y + 0.09 * (index % 3 - 1) for index in range(len(strip.values))]
    values = sorted(strip.values)
    axes.plot(values, heights, "o", color=colour, markersize=4, markeredgecolor="white", markeredgewidth=0.5)


def _line(axes: Axes, line: Line, index: int) -> None:
    colour, (style, mark) = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
    axes.plot(line.x, line.y, linestyle=style, marker=mark, color=colour, markersize=4, label=line.name)
    if line.spread:
        bounded = [(x, *ends) for x, *ends in zip(line.x, *line.spread, strict=True) if all(map(math.isfinite, ends))]
        x, low, high = zip(*bounded, strict=True) if bounded else ((), (), ())
        axes.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0)
    axes.plot([x for x, _ in line.dots], [y for _, y in line.dots], ".", color=colour, alpha=0.4)
