"""The charts of a study as data, for the page and for ``plot.png`` alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vision_train.report.charts import Line, LineChart, Strip, StripChart
from vision_train.report.plot import StripRows, plot_lines, plot_strips
from vision_train.statistics import Interval
from vision_train.study.results import ArmResult, CellResult, StudyResult
from vision_train.study.study import Study


def draw_plot(study: Study, result: StudyResult) -> bytes:
    """``plot.png``: every seed as a point, means and intervals, and the differences to the first arm.

    Args:
        study: Cells stand one below another, unless the values of its grid are numbers: they make the x axis.
        result: At least one arm has a run.
    """
    first = next(cell.arms[0].name for cell in result.cells if cell.arms)
    labels = result.metric.title, _difference_label("difference to\n" + first, result)
    several = study.plan.draws_noun
    note = f"points: {several} · marks: means · bars and bands: 95 % intervals over the {several}"
    note += f", of all {result.tests} differences at once" if result.tests > 1 else ""
    if grid := grid_charts(study, result):
        return plot_lines(*grid, labels, note)
    return plot_strips([seed_charts(cell, result, study) for cell in result.cells if cell.arms], labels, note)


def grid_charts(study: Study, result: StudyResult) -> tuple[LineChart, LineChart] | None:
    """Levels and differences over the values of the grid; None if these are no numbers, or there is no grid."""
    grid = study.plan.grid
    try:
        numbers = [float(value) for value in grid.values] if grid else []
    except ValueError:
        return None
    if grid is None:
        return None
    names = dict.fromkeys(arm.name for cell in result.cells for arm in cell.arms)
    levels = [_levels(result, name, numbers, colour) for colour, name in enumerate(names)]
    differences = [_differences(result, name, numbers, colour) for colour, name in enumerate(names) if colour]
    title, written = result.metric.title, result.metric.format
    remark = f"Means, with 95 % intervals over the {study.plan.draws_noun} as bands{together(result)}."
    label = _difference_label(f"Difference to {study.plan.arms[0].name}", result)
    return (
        LineChart(title, levels, grid.key, written, remark, last_values=False, bounded=result.metric.is_share),
        LineChart(label, differences, grid.key, last_values=False),
    )


def seed_charts(cell: CellResult, result: StudyResult, study: Study) -> StripRows:
    """Each seed of a cell's arms, or each fold, and the differences on the same one. The cell has an arm."""
    several = study.plan.draws_noun
    metric, title = result.metric, result.metric.title
    factor, unit = metric.factor, metric.unit
    levels = [
        Strip(arm.name, list(arm.values.values()), arm.mean, arm.interval, colour)
        for colour, arm in enumerate(cell.arms)
    ]
    compared = {comparison.name: comparison for comparison in cell.comparisons}
    differences = []
    for colour, arm in enumerate(cell.arms):
        if comparison := compared.get(arm.name):
            values = [factor * value for value in _differences_by_seed(cell, arm)]
            ends = _scaled(comparison.interval, factor)
            differences.append(Strip(arm.name, values, factor * comparison.difference, ends, colour))
    remark = f"Dots are {several}, the mark is their mean, the bar its 95 % interval."
    level_chart = StripChart(title, levels, title, metric.format, remark, bounded=metric.is_share)
    if not differences:
        return StripRows(cell.title, level_chart, None)
    beside = "" if study.plan.folds else f" and by those over the {study.noun}"
    difference_chart = StripChart(
        f"Difference to {cell.arms[0].name} on the same {several.removesuffix('s')}",
        differences,
        unit or title,
        lambda value: metric.format_difference(value / factor, 1),
        f"Verdicts go by these intervals over the {several}{beside}{together(result)}.",
        difference=True,
    )
    return StripRows(cell.title, level_chart, difference_chart)


def together(result: StudyResult) -> str:
    """Says of several differences that their intervals hold at once."""
    return f"; those of all {result.tests} differences hold at once" if result.tests > 1 else ""


def _difference_label(label: str, result: StudyResult) -> str:
    unit = result.metric.unit
    return f"{label}, {unit}" if unit else label


def _differences_by_seed(cell: CellResult, arm: ArmResult) -> list[float]:
    """An arm minus the first, for each seed that both have."""
    first = cell.arms[0].values
    return [arm.values[seed] - first[seed] for seed in sorted(arm.values.keys() & first.keys())]


def _levels(result: StudyResult, name: str, numbers: Sequence[float], colour: int) -> Line:
    """An arm's means over the grid."""
    arms = [(x, arm) for x, cell in _by_number(result, numbers) for arm in cell.arms if arm.name == name]
    dots = [(x, value) for x, arm in arms for value in arm.values.values()]
    return _line(name, [(x, arm.mean, arm.interval) for x, arm in arms], colour, dots)


def _differences(result: StudyResult, name: str, numbers: Sequence[float], colour: int) -> Line:
    """An arm's differences to the first over the grid, in the unit they are shown in."""
    factor = result.metric.factor
    compared = [(x, each) for x, cell in _by_number(result, numbers) for each in cell.comparisons if each.name == name]
    points = [(x, factor * each.difference, _scaled(each.interval, factor)) for x, each in compared]
    return _line(name, points, colour)


def _by_number(result: StudyResult, numbers: Sequence[float]) -> Iterator[tuple[float, CellResult]]:
    yield from sorted(zip(numbers, result.cells, strict=True), key=lambda pair: pair[0])


def _scaled(interval: Interval | None, factor: float) -> tuple[float, float] | None:
    return None if interval is None else (factor * interval.low, factor * interval.high)


def _line(
    name: str,
    points: Sequence[tuple[float, float, tuple[float, float] | None]],
    colour: int,
    dots: Sequence[tuple[float, float]] = (),
) -> Line:
    low, high = ([ends[index] if ends else math.nan for _, _, ends in points] for index in (0, 1))
    return Line(name, [x for x, _, _ in points], [y for _, y, _ in points], colour, (low, high), dots=dots)
