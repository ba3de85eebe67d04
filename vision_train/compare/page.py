"""``compare.html``: the study on one page that looks like the report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vision_train.artefacts import Table
from vision_train.compare import tables, words
from vision_train.compare.judgement import Comparison
from vision_train.compare.plot import arm_names, differences_by_seed, grid_points
from vision_train.compare.results import CellResult, StudyResult
from vision_train.compare.study import Study
from vision_train.report.charts import Line, line_chart
from vision_train.report.formats import metric_format, metric_title
from vision_train.report.page import Section, escape, listing, note, notice, page, pair, table
from vision_train.report.seed_chart import Strip, seed_chart


@dataclass(frozen=True)
class State:
    """How far the study is, and how it was asked for."""

    command: str
    finished: int
    planned: int
    failures: Sequence[str]
    """One line for each run that failed, with the reason."""

    @property
    def to_come(self) -> int:
        """Runs that are neither finished nor failed."""
        return self.planned - self.finished - len(self.failures)


def comparison_page(study: Study, result: StudyResult, state: State) -> str:
    """The page as HTML."""
    names = [arm.name for arm in study.plan.arms]
    title = f"{', '.join(names[1:])} against {names[0]}"
    cells = [cell for cell in result.cells if cell.arms]
    budget = "\n".join(_table(tables.budget_table(cell)) for cell in cells)
    remark = "Means of one run; the largest peak memory. What differs from the first arm is red."
    sections = [
        Section("Results", "\n".join(_results(study, result, cells))),
        Section("What differs", _what_differs(study, result)),
        Section("Budget", budget + note(" ".join(filter(None, (remark, words.MEMORY, words.under_load(result)))))),
        Section("Seeds", "\n".join(_table(_seeds(study, cell, result)) for cell in cells)),
        Section("How to read this", f"<p>{escape(words.HOW_TO_READ)}</p><p>{escape(words.WHAT_A_SEED_DRAWS)}</p>"),
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
    samples = {settings.test_samples for settings in study.settings[0]}
    tested = f"{' or '.join(f'{count:,}' for count in sorted(samples))} test samples"
    seeds = f"{study.plan.seeds} seed{'s' if study.plan.seeds > 1 else ''}"
    parts = [f"<h1>{escape(title)}</h1>"]
    byline = " · ".join([metric_title(result.metric), seeds, tested, f"{state.finished} of {state.planned} runs"])
    parts.append(f'<p class="byline">{escape(byline)}</p>')
    verdicts = "".join(_verdict(cell, comparison, result) for cell in result.cells for comparison in cell.comparisons)
    parts.append(f'<ul class="verdicts">{verdicts}</ul>' if verdicts else "")
    red = [f"Failed: {'; '.join(state.failures)}"] if state.failures else []
    parts += [notice(text, fault=True) for text in [*red, *words.faults(result)]]
    parts += [notice(text) for text in words.cautions(study, result, state.to_come, state.planned)]
    return "\n".join(parts)


def _verdict(cell: CellResult, comparison: Comparison, result: StudyResult) -> str:
    title = f"{cell.title}: " if cell.title else ""
    kind = comparison.verdict if comparison.verdict in ("better", "worse") else "open"
    text = words.evidence(comparison, result.metric, result.tests).replace(" %", "\u00a0%")
    return f'<li class="{kind}"><strong>{escape(title + words.headline(comparison))}:</strong> {escape(text)}</li>'


def _what_differs(study: Study, result: StudyResult) -> str:
    remark = (
        "Resolved recipes; all keys that are not listed are the same. Steps are optimiser steps of the last phase. "
        "Where some arms lack a phase, its differences from the recipe that it trains for are listed too."
    )
    return _table(tables.recipe_diff_table(study, result), remark)


def _results(study: Study, result: StudyResult, cells: Sequence[CellResult]) -> list[str]:
    numbers = grid_numbers(study)
    parts = [_grid_charts(study, result, numbers)] if numbers else []
    for cell in cells:
        parts.append(f"<h3>{escape(cell.title)}</h3>" if cell.title else "")
        parts.append(_seed_charts(cell, result))
        parts.append(_table(replace(tables.result_table(cell, result), title="")))
    return parts


def _grid_charts(study: Study, result: StudyResult, numbers: Sequence[float]) -> str:
    assert study.plan.grid is not None
    names = arm_names(result)
    first = study.plan.arms[0].name
    levels = [_line(result, name, numbers, index, differences=False) for index, name in enumerate(names)]
    differences = [_line(result, name, numbers, index, differences=True) for index, name in enumerate(names) if index]
    _, unit = words.difference_scale(result.metric)
    key, written = study.plan.grid.key, metric_format(result.metric)
    remark = f"Means, with 95 % intervals over the seeds as bands{_together(result)}."
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
                lambda value: words.format_difference(metric, value / factor, 1),
                f"Verdicts go by these intervals over the seeds and by those over the samples{_together(result)}.",
            )
        )
    return pair(charts)


def _seeds(study: Study, cell: CellResult, result: StudyResult) -> Table:
    return tables.seed_table(cell, result, study.plan.seeds, study.path)


def _table(content: Table, remark: str = "") -> str:
    return f'<div class="dense">{table(content.title, content.columns, content.rows, remark)}</div>'


def _together(result: StudyResult) -> str:
    return f"; those of all {result.tests} differences hold at once" if result.tests > 1 else ""
