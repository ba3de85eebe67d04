"""What a study leaves in its folder: ``table.md``, ``table.json``, ``plot.png`` and ``compare.html``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vision_train import __version__
from vision_train.compare import tables, words
from vision_train.compare.page import HOW_TO_READ, State, comparison_page, grid_numbers, under_load
from vision_train.compare.plot import draw_plot
from vision_train.compare.results import ArmResult, CellResult, StudyResult
from vision_train.compare.study import Study
from vision_train.files import write_bytes, write_json, write_text
from vision_train.report.formats import metric_title


def write_results(study: Study, result: StudyResult, state: State) -> None:
    """Write all of them, each whole; a study under way shows what it has."""
    folder = study.path
    write_json(folder / "table.json", as_plain(study, result, state))
    write_text(folder / "table.md", as_markdown(study, result, state))
    write_text(folder / "compare.html", comparison_page(study, result, state))
    if any(cell.arms for cell in result.cells):
        key = study.plan.grid.key if study.plan.grid else None
        write_bytes(folder / "plot.png", draw_plot(result, key, grid_numbers(study)))


def as_markdown(study: Study, result: StudyResult, state: State) -> str:
    """The verdicts, what differs, results and budgets, with the command that repeats the study."""
    names = [arm.name for arm in study.plan.arms]
    parts = [f"# {', '.join(names[1:])} against {names[0]}"]
    parts.append(f"{metric_title(result.metric)}, {state.finished} of {state.planned} runs. {words.WHAT_A_SEED_DRAWS}")
    parts.append(words.caution(result.tests, state.finished, state.planned))
    parts += [f"**Failed:** {failure}" for failure in state.failures]
    parts.append(words.ONE_SEED if study.plan.seeds == 1 else "")
    verdicts = []
    for cell in result.cells:
        title = f"{cell.title}: " if cell.title else ""
        for comparison in cell.comparisons:
            verdicts.append(
                f"- {title}**{words.headline(comparison)}.** {words.evidence(comparison, result.metric, result.tests)}"
            )
        verdicts += [f"- {title}**Unequal budgets (!)** {difference}." for difference in words.budget_differences(cell)]
    parts.append("\n".join(verdicts))
    parts += ["## What differs", tables.to_markdown(tables.recipe_diff_table(study, result)), "## Results"]
    for cell in result.cells:
        parts += [f"### {cell.title}" if cell.title else "", tables.to_markdown(tables.result_table(cell, result))]
    parts.append(HOW_TO_READ)
    parts.append("## Budget")
    for cell in result.cells:
        parts += [f"### {cell.title}" if cell.title else "", tables.to_markdown(tables.budget_table(cell))]
    parts += [under_load(state.jobs), "## Command", f"```\n{state.command}\n```"]
    return "\n\n".join(filter(None, parts)) + "\n"


def as_plain(study: Study, result: StudyResult, state: State) -> dict[str, Any]:
    """Every figure of the study as mappings, lists and numbers."""
    plan = study.plan
    return {
        "vision_train": __version__,
        "command": state.command,
        "metric": result.metric,
        "mode": result.mode,
        "seeds": plan.seeds,
        "grid": {"key": plan.grid.key, "values": list(plan.grid.values)} if plan.grid else None,
        "runs": {"finished": state.finished, "planned": state.planned, "failures": list(state.failures)},
        "jobs": state.jobs,
        "cells": [_cell_as_plain(study, index, cell, result) for index, cell in enumerate(result.cells)],
    }


def _cell_as_plain(study: Study, index: int, cell: CellResult, result: StudyResult) -> dict[str, Any]:
    return {
        "title": cell.title,
        "test_images": study.settings[0][index].test_images,
        "arms": [_arm_as_plain(study, arm) for arm in cell.arms],
        "comparisons": [
            {**_plain(comparison), "sentence": words.sentence(comparison, result.metric, result.tests)}
            for comparison in cell.comparisons
        ],
    }


def _arm_as_plain(study: Study, arm: ArmResult) -> dict[str, Any]:
    plain = _plain(arm)
    plain["runs"] = {str(seed): run.folder.relative_to(study.path).as_posix() for seed, run in arm.runs.items()}
    plain["values"] = {str(seed): value for seed, value in arm.values.items()}
    return plain


def _plain(content: Any) -> dict[str, Any]:
    """A dataclass as a mapping, its intervals as ``{low, high}``."""
    return {
        key: {"low": value[0], "high": value[1]} if key.endswith("interval") and value else value
        for key, value in asdict(content).items()
    }
