"""``plot.png``: every seed as a point, means and intervals, and the differences to the first arm."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vision_train.compare.results import ArmResult, CellResult, StudyResult
from vision_train.compare.words import difference_scale
from vision_train.report.formats import format_percent, metric_format, metric_title
from vision_train.statistics import Interval

COLOURS = ("#2360c5", "#c2540a", "#1f7a46", "#7b3fbf", "#b02a58", "#0f7482")
"""The lines of the page."""
STYLES = (("-", "o"), ("--", "s"), (":", "^"))
"""Lines and marks; arms that have to share a colour are told apart by them."""


def draw_plot(result: StudyResult, key: str | None, numbers: Sequence[float] | None) -> bytes:
    """Draw the study as a PNG.

    Args:
        result: Of the study; at least one arm has a run.
        key: The key that the grid varies, or None.
        numbers: Its values, where all are numbers: they make the x axis. Otherwise cells stand one below another.
    """
    title = metric_title(result.metric)
    if numbers is not None:
        figure = Figure(figsize=(10, 4 + 0.12 * len(arm_names(result))), layout="constrained")
        left, right = figure.subplots(1, 2)
        _lines(left, result, numbers, differences=False)
        _lines(right, result, numbers, differences=True)
        for axes in (left, right):
            axes.set_xlabel(str(key))
            axes.set_xticks(numbers)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
        left.set_ylabel(title)
        right.set_ylabel(_difference_label(result))
    else:
        rows = sum(len(cell.arms) for cell in result.cells)
        figure = Figure(figsize=(10, 1.6 + 0.55 * rows), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _strips(left, right, result)
        left.set_xlabel(title)
        right.set_xlabel(_difference_label(result))
    together = f", of all {result.tests} differences at once" if result.tests > 1 else ""
    _finish(figure, left, right, result.metric, numbers is not None, together)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def differences_by_seed(cell: CellResult, arm: ArmResult) -> list[float]:
    """An arm minus the first, for each seed that both have."""
    first = cell.arms[0].values
    return [arm.values[seed] - first[seed] for seed in sorted(arm.values.keys() & first.keys())]


def _difference_label(result: StudyResult) -> str:
    _, unit = difference_scale(result.metric)
    first = next(cell.arms[0].name for cell in result.cells if cell.arms)
    return f"difference to\n{first}{f', {unit}' if unit else ''}"


def _finish(figure: Figure, left: Axes, right: Axes, metric: str, upright: bool, together: str) -> None:
    if metric_format(metric) is format_percent:
        shares = left.yaxis if upright else left.xaxis
        shares.set_major_locator(MaxNLocator(6))  # more of these labels would touch
        shares.set_major_formatter(PercentFormatter(1.0))
    (right.axhline if upright else right.axvline)(0.0, color="#59616b", linestyle="--", linewidth=0.8, zorder=1)
    for axes in (left, right):
        axes.grid(color="#eceef0")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    text = "points: seeds · marks: means · bars and bands: 95 % intervals over the seeds"
    figure.supxlabel(f"{text}{together}", fontsize=8, color="#59616b")


def _strips(left: Axes, right: Axes, result: StudyResult) -> None:
    factor, _ = difference_scale(result.metric)
    labels: list[str] = []
    for cell in result.cells:
        compared = {comparison.name: comparison for comparison in cell.comparisons}
        for index, arm in enumerate(cell.arms):
            y, colour = len(labels), COLOURS[index % len(COLOURS)]
            labels.append("\n".join(filter(None, (arm.name, cell.title))))
            _strip(left, y, list(arm.values.values()), arm.mean, arm.interval, colour)
            if comparison := compared.get(arm.name):
                values = [factor * value for value in differences_by_seed(cell, arm)]
                interval = comparison.interval and Interval(*(factor * end for end in comparison.interval))
                _strip(right, y, values, factor * comparison.difference, interval, colour)
    left.set_yticks(range(len(labels)), labels)
    left.set_ylim(len(labels) - 0.4, -0.6)


def _strip(axes: Axes, y: float, values: Sequence[float], mean: float, interval: Interval | None, colour: str) -> None:
    if interval:
        axes.plot(interval, [y, y], color=colour, linewidth=9, alpha=0.22, solid_capstyle="butt")
    axes.plot([mean, mean], [y - 0.25, y + 0.25], color=colour, linewidth=2)
    heights = [y + 0.09 * (index % 3 - 1) for index in range(len(values))]
    axes.plot(sorted(values), heights, "o", color=colour, markersize=4, markeredgecolor="white", markeredgewidth=0.5)


def _lines(axes: Axes, result: StudyResult, numbers: Sequence[float], differences: bool) -> None:
    for index, name in enumerate(arm_names(result)):
        if differences and index == 0:
            continue
        colour, (line, mark) = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
        points = grid_points(result, name, numbers, differences)
        style: dict[str, Any] = {"linestyle": line, "marker": mark, "color": colour, "markersize": 4}
        axes.plot([p[0] for p in points], [p[1] for p in points], **style, label=name)
        bounded = [(x, interval) for x, _, interval in points if interval]
        low, high = [interval.low for _, interval in bounded], [interval.high for _, interval in bounded]
        axes.fill_between([x for x, _ in bounded], low, high, color=colour, alpha=0.1, linewidth=0)
        for x, cell in zip(numbers, result.cells, strict=True):
            for arm in cell.arms:
                if arm.name == name and not differences:
                    axes.plot([x] * len(arm.values), list(arm.values.values()), ".", color=colour, alpha=0.4)


def arm_names(result: StudyResult) -> list[str]:
    """Arms with a run in some cell, in order."""
    return list(dict.fromkeys(arm.name for cell in result.cells for arm in cell.arms))


def grid_points(
    result: StudyResult, name: str, numbers: Sequence[float], differences: bool
) -> list[tuple[float, float, Interval | None]]:
    """Value of the grid, mean and interval of an arm, or of its difference to the first in the unit it is shown in."""
    factor, _ = difference_scale(result.metric)
    points: list[tuple[float, float, Interval | None]] = []
    for x, cell in sorted(zip(numbers, result.cells, strict=True), key=lambda pair: pair[0]):
        if differences:
            for comparison in cell.comparisons:
                if comparison.name == name:
                    ends = comparison.interval and Interval(*(factor * end for end in comparison.interval))
                    points.append((x, factor * comparison.difference, ends))
        else:
            points += [(x, arm.mean, arm.interval) for arm in cell.arms if arm.name == name]
    return points
