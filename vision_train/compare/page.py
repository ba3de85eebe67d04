"""``compare.html``: the study on one page that looks like the report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vision_train.artefacts import Table
from vision_train.compare import tables, words
from vision_train.compare.comparison import Comparison
from vision_train.compare.plot import arm_names, differences_by_seed, grid_points
from vision_train.compare.results import CellResult, StudyResult
from vision_train.compare.study import Study
from vision_train.report.charts import Line, line_chart
from vision_train.report.formats import metric_format, metric_title
from vision_train.report.page import Section, escape, listing, note, notice, page, pair, table
from vision_train.report.seed_chart import Strip, seed_chart

HOW_TO_READ = (
    "95 % intervals are Student's t over the seeds: where the mean over all seeds there could be lies. Differences are "
    "taken within each seed and tested by a paired t test, since what a seed draws moves all arms alike. Wins are "
    "seeds on which an arm is ahead of the first. The interval over test images resamples the images, not the seeds "
    "(paired bootstrap): how far the same runs might have been apart on other images of the kind. How many seeds it "
    "would take is the power of that t test at the spread seen here; from few seeds it is a rough estimate."
)


@dataclass(frozen=True)
class State:
    """How far the study is, and how it was asked for."""

    command: str
    finished: int
    planned: int
    failures: Sequence[str]
    jobs: int


def comparison_page(study: Study, result: StudyResult, state: State) -> str:
    """The page as HTML."""
    names = [arm.name for arm in study.plan.arms]
    title = f"{', '.join(names[1:])} against {names[0]}"
    cells = [cell for cell in result.cells if cell.arms]
    sections = [
        Section("What differs", _what_differs(study, result)),
        Section("Results", "\n".join(_results(study, result, cells))),
        Section("Budget", "\n".join(_table(tables.budget_table(cell)) for cell in cells) + note(_per_run(state))),
        Section("Seeds", "\n".join(_table(_seeds(study, cell, result)) for cell in cells)),
        Section("How to read this", f"<p>{escape(HOW_TO_READ)}</p><p>{escape(words.WHAT_A_SEED_DRAWS)}</p>"),
        Section("Command", listing([state.command])),
    ]
    return page(f"{title} · vision-train", _header(title, study, result, state), sections)


def grid_numbers(study: Study) -> list[float] | None:
    """Values of the grid as numbers; None if one is none, or there is no grid."""
    if study.plan.grid is None:
        return None
    try:
        return [float(value) for value in study.plan.grid.values]
    except ValueError:
        return None


def _header(title: str, study: Study, result: StudyResult, state: State) -> str:
    images = {settings.test_images for settings in study.settings[0]}
    tested = f"{' or '.join(f'{count:,}' for count in sorted(images))} test images"
    seeds = f"{study.plan.seeds} seed{'s' if study.plan.seeds > 1 else ''}"
    parts = [f"<h1>{escape(title)}</h1>"]
    byline = " · ".join([metric_title(result.metric), seeds, tested, f"{state.finished} of {state.planned} runs"])
    parts.append(f'<p class="byline">{escape(byline)}</p>')
    if state.failures:
        parts.append(notice("Failed: " + "; ".join(state.failures), fault=True))
    for cell in result.cells:
        for difference in words.budget_differences(cell):
            prefix = f"{cell.title}: " if cell.title else ""
            parts.append(notice(f"Unequal budgets: {prefix}{difference}.", fault=True))
    if caution := words.caution(result.tests, state.finished, state.planned):
        parts.append(notice(caution))
    if study.plan.seeds == 1:
        parts.append(notice(words.ONE_SEED))
    verdicts = "".join(_verdict(cell, comparison, result) for cell in result.cells for comparison in cell.comparisons)
    parts.append(f'<ul class="verdicts">{verdicts}</ul>' if verdicts else "")
    return "\n".join(parts)


def _verdict(cell: CellResult, comparison: Comparison, result: StudyResult) -> str:
    title = f"{cell.title}: " if cell.title else ""
    kind = comparison.verdict if comparison.verdict in ("better", "worse") else "open"
    text = words.evidence(comparison, result.metric, result.tests)
    return f'<li class="{kind}"><b>{escape(title + words.headline(comparison))}</b>{escape(text)}</li>'


def _what_differs(study: Study, result: StudyResult) -> str:
    remark = "Resolved recipes; all keys that are not listed are the same. Steps are optimiser steps of the last phase."
    return _table(tables.recipe_diff_table(study, result), remark)


def _results(study: Study, result: StudyResult, cells: Sequence[CellResult]) -> list[str]:
    numbers = grid_numbers(study)
    parts = [_grid_charts(study, result, numbers)] if numbers else []
    for cell in cells:
        parts.append(_table(tables.result_table(cell, result)))
        parts.append(_seed_charts(cell, result))
    return parts


def _grid_charts(study: Study, result: StudyResult, numbers: Sequence[float]) -> str:
    assert study.plan.grid is not None
    names = arm_names(result)
    first = study.plan.arms[0].name
    levels = [_line(result, name, numbers, index, differences=False) for index, name in enumerate(names)]
    differences = [_line(result, name, numbers, index, differences=True) for index, name in enumerate(names) if index]
    _, unit = words.difference_scale(result.metric)
    key, written = study.plan.grid.key, metric_format(result.metric)
    remark = "Means, with 95 % intervals over the seeds as bands."
    return pair(
        [
            line_chart(metric_title(result.metric), levels, key, written, remark, last_values=False),
            line_chart(f"Difference to {first}{f', {unit}' if unit else ''}", differences, key, last_values=False),
        ]
    )


def _line(result: StudyResult, name: str, numbers: Sequence[float], colour: int, differences: bool) -> Line:
    points = grid_points(result, name, numbers, differences)
    low = [interval.low if interval else y for _, y, interval in points]
    high = [interval.high if interval else y for _, y, interval in points]
    return Line(name, [x for x, _, _ in points], [y for _, y, _ in points], colour, (low, high))


def _seed_charts(cell: CellResult, result: StudyResult) -> str:
    metric, written = result.metric, metric_format(result.metric)
    factor, unit = words.difference_scale(metric)
    levels = [
        Strip(arm.name, list(arm.values.values()), arm.mean, arm.interval, colour)
        for colour, arm in enumerate(cell.arms)
    ]
    compared = {comparison.name: comparison for comparison in cell.comparisons}
    differences = []
    for colour, arm in enumerate(cell.arms):
        if comparison := compared.get(arm.name):
            values = [factor * value for value in differences_by_seed(cell, arm)]
            ends = comparison.interval and (factor * comparison.interval.low, factor * comparison.interval.high)
            differences.append(Strip(arm.name, values, factor * comparison.difference, ends, colour))
    remark = "Dots are seeds, the mark is their mean, the bar its 95 % interval."
    charts = [seed_chart(metric_title(metric), levels, metric_title(metric).lower(), written, remark)]
    if differences:
        first = cell.arms[0].name
        charts.append(
            seed_chart(
                f"Difference to {first} on the same seed",
                differences,
                unit or metric_title(metric).lower(),
                lambda value: words.format_difference(metric, value / factor),
                "An interval that does not reach 0 is what the verdict calls measurable, several comparisons aside.",
            )
        )
    return pair(charts)


def _seeds(study: Study, cell: CellResult, result: StudyResult) -> Table:
    return tables.seed_table(cell, result, study.plan.seeds, study.path)


def _table(content: Table, remark: str = "") -> str:
    return f'<div class="dense">{table(content.title, content.columns, content.rows, remark)}</div>'


def _per_run(state: State) -> str:
    parts = [
        "Means of one run; the largest peak memory. What differs from the first arm is red.",
        under_load(state.jobs),
    ]
    return " ".join(filter(None, parts))


def under_load(jobs: int) -> str:
    """What times are worth when several runs share the machine; nothing for one at a time."""
    if jobs == 1:
        return ""
    return f"{jobs} runs at a time shared the machine: times are under load, and say little about a run alone."
