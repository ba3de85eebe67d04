"""What a study leaves in its folder: ``table.md``, ``table.json``, ``plot.png`` and ``compare.html``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from vision_train import __version__
from vision_train.artefacts import Table
from vision_train.files import write_bytes, write_json, write_text
from vision_train.study import tables, words
from vision_train.study.charts import draw_plot
from vision_train.study.page import State, comparison_page
from vision_train.study.results import ArmResult, CellResult, StudyResult
from vision_train.study.study import Study


def write_results(study: Study, result: StudyResult, state: State) -> None:
    """Write all of them, each whole; a study under way shows what it has."""
    folder = study.path
    write_json(folder / "table.json", as_plain(study, result, state))
    write_text(folder / "table.md", as_markdown(study, result, state))
    write_text(folder / "compare.html", comparison_page(study, result, state))
    if any(cell.arms for cell in result.cells):
        write_bytes(folder / "plot.png", draw_plot(study, result))


def verdicts(result: StudyResult) -> list[str]:
    """One sentence for each comparison, with the value of the grid before it."""
    return [
        (f"{cell.title}: " if cell.title else "") + words.sentence(comparison, result.metric, result.tests)
        for cell in result.cells
        for comparison in cell.comparisons
    ]


def as_markdown(study: Study, result: StudyResult, state: State) -> str:
    """The verdicts, cautions, results, what differs and budgets, with the command that repeats the study."""
    names = [arm.name for arm in study.plan.arms]
    byline = f"{result.metric.title}, {state.finished} of {state.planned} runs. {words.what_is_drawn(study.plan)}"
    parts = [
        f"# {', '.join(names[1:])} against {names[0]}",
        "\n".join(f"- {verdict}" for verdict in verdicts(result)),
        *(f"**Failed (!)** {failure}" for failure in state.failures),
        *(f"**(!)** {fault}" for fault in words.faults(result)),
        *words.cautions(study, result, state.to_come, state.planned),
        byline,
        "## Results",
        *_of_each_cell(result, lambda cell: tables.result_table(cell, result, study)),
        words.how_to_read(study.plan),
        "## What differs",
        tables.to_markdown(tables.recipe_diff_table(study, result)),
        "## Budget",
        *_of_each_cell(result, tables.budget_table),
        words.MEMORY,
        words.under_load(result),
        f"## Command\n\n```\n{state.command}\n```",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _of_each_cell(result: StudyResult, make: Callable[[CellResult], Table]) -> list[str]:
    parts = []
    for cell in result.cells:
        parts += [f"### {cell.title}" if cell.title else "", tables.to_markdown(make(cell))]
    return parts


def as_plain(study: Study, result: StudyResult, state: State) -> dict[str, Any]:
    """Every figure of the study as mappings, lists and numbers."""
    plan = study.plan
    return {
        "vision_train": __version__,
        "command": state.command,
        "metric": result.metric.name,
        "mode": result.mode,
        "seeds": plan.seeds,
        "folds": plan.folds,
        "grid": {"key": plan.grid.key, "values": list(plan.grid.values)} if plan.grid else None,
        "runs": {"finished": state.finished, "planned": state.planned, "failures": list(state.failures)},
        "comparisons": result.tests,
        "cautions": words.cautions(study, result, state.to_come, state.planned),
        "faults": words.faults(result),
        "most_jobs": result.most_jobs,
        "cells": [_cell_as_plain(study, index, cell, result) for index, cell in enumerate(result.cells)],
    }


def _cell_as_plain(study: Study, index: int, cell: CellResult, result: StudyResult) -> dict[str, Any]:
    return {
        "title": cell.title,
        "test_samples": study.resolved[0][index].test_samples,
        "arms": [_arm_as_plain(study, arm) for arm in cell.arms],
        "comparisons": [
            {**_plain(comparison), "sentence": words.sentence(comparison, result.metric, result.tests)}
            for comparison in cell.comparisons
        ],
    }


def _arm_as_plain(study: Study, arm: ArmResult) -> dict[str, Any]:
    plain = _plain(arm)
    plain["runs"] = {draw.name: run.folder.relative_to(study.path).as_posix() for draw, run in arm.runs.items()}
    plain["values"] = {draw.name: value for draw, value in arm.values.items()}
    return plain


def _plain(content: Any) -> dict[str, Any]:
    """A dataclass as a mapping, its intervals and other named tuples as mappings too."""
    return {
        key: value._asdict() if (value := getattr(content, key)) is not None and hasattr(value, "_asdict") else plain
        for key, plain in asdict(content).items()
    }
