"""``compare.html``: the study on one page that looks like the report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vision_train.report.line_chart import line_chart
from vision_train.report.page import render_page
from vision_train.report.strip_chart import strip_chart
from vision_train.study import tables, words
from vision_train.study.charts import grid_charts, seed_charts
from vision_train.study.judgement import Comparison
from vision_train.study.learning import learning_charts
from vision_train.study.results import CellResult, StudyResult
from vision_train.study.study import Study


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
    heading = f"{', '.join(names[1:])} against {names[0]}"
    remark = "Means of one run; the largest peak memory. What differs from the first arm is red."
    return render_page(
        "compare.html",
        f"{heading} · vision-train",
        heading=heading,
        byline=_byline(study, result, state),
        verdicts=[_verdict(cell, comparison, result) for cell in result.cells for comparison in cell.comparisons],
        faults=[*([f"Failed: {'; '.join(state.failures)}"] if state.failures else []), *words.faults(result)],
        cautions=words.cautions(study, result, state.to_come, state.planned),
        grid_charts=[line_chart(chart) for chart in grid_charts(study, result) or ()],
        cells=[_cell(study, cell, result) for cell in result.cells if cell.arms],
        differences=tables.recipe_diff_table(study, result),
        differences_remark=(
            "Resolved recipes; all keys that are not listed are the same. Steps are optimiser steps, those of "
            "pre-training aside. Where some arms lack a phase, its differences from the recipe that it trains for are "
            "listed too. Behind `auto` stand the values that the runs found, from the least to the largest."
        ),
        budget_remark=" ".join(filter(None, (remark, words.MEMORY, words.under_load(result)))),
        how_to_read=(words.how_to_read(study.plan), words.what_is_drawn(study.plan)),
        command=state.command,
    )


def _byline(study: Study, result: StudyResult, state: State) -> str:
    folds = f", {study.plan.folds} folds each" if study.plan.folds else ""
    samples = {arm.test_samples for arm in study.resolved[0]}
    tested = f"{' or '.join(f'{count:,}' for count in sorted(samples))} test {study.noun}"
    seeds = f"{study.plan.seeds} seed{'s' if study.plan.seeds > 1 else ''}{folds}"
    return " · ".join([result.metric.title, seeds, tested, f"{state.finished} of {state.planned} runs"])


def _verdict(cell: CellResult, comparison: Comparison, result: StudyResult) -> dict[str, str]:
    title = f"{cell.title}: " if cell.title else ""
    return {
        "kind": comparison.verdict if comparison.verdict in ("better", "worse") else "open",
        "headline": title + words.headline(comparison),
        "evidence": words.evidence(comparison, result.metric, result.tests).replace(" %", "\u00a0%"),
    }


def _cell(study: Study, cell: CellResult, result: StudyResult) -> dict[str, Any]:
    """What the page shows of one cell, that is one value of the grid."""
    strips = seed_charts(cell, result, study)
    return {
        "title": cell.title,
        "curves": [line_chart(chart) for chart in learning_charts(study, cell)],
        "charts": [strip_chart(chart) for chart in (strips.levels, strips.differences) if chart],
        "results": replace(tables.result_table(cell, result, study), title=""),
        "budget": tables.budget_table(cell),
        "seeds": tables.seed_table(cell, result, study),
    }
