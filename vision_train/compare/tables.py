"""The tables of a study, for the page and for Markdown alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vision_train.artefacts import Table
from vision_train.compare.plan import UNSEEN
from vision_train.compare.recipe_diff import differing_keys
from vision_train.compare.results import ArmResult, CellResult, StudyResult
from vision_train.compare.statistics import Interval
from vision_train.compare.study import Study
from vision_train.compare.words import bare_difference, budget_pairs, difference_scale, format_interval, format_p
from vision_train.recipe import to_plain
from vision_train.report.formats import (
    Written,
    format_bytes,
    format_cell,
    format_duration,
    format_number,
    metric_format,
    metric_title,
)
from vision_train.report.page import Cell

DASH = "–"


def recipe_diff_table(study: Study, result: StudyResult) -> Table:
    """Keys whose resolved values differ between arms, and what follows from them for steps, rate and memory."""
    arms = study.plan.arms
    keys = differing_keys([to_plain(arm.recipes[0]) for arm in arms], UNSEEN)
    rows: list[list[Any]] = [[key, *map(format_cell, values)] for key, values in keys.items()]
    settings = study.settings

    def effect(name: str, values: Sequence[Sequence[str]]) -> None:
        """One row of a value for each cell of each arm; values that are the same in all cells are given once."""
        shown = [" / ".join(of_arm) if len(set(of_arm)) > 1 else of_arm[0] for of_arm in values]
        rows.append([f"→ {name}", *shown])

    effect("steps", [[format_number(setting.steps) for setting in of_arm] for of_arm in settings])
    effect("effective learning rate", [[f"{setting.learning_rate:g}" for setting in of_arm] for of_arm in settings])
    measured = [{arm.name: format_bytes(arm.peak_memory_bytes) for arm in cell.arms} for cell in result.cells]
    effect("peak memory, measured", [[of_cell.get(arm.name, DASH) for of_cell in measured] for arm in arms])
    return Table("recipe_diff", "", ["resolved key", *(arm.name for arm in arms)], rows)


def result_table(cell: CellResult, result: StudyResult) -> Table:
    """One row an arm: level over the seeds, difference to the first, tests."""
    metric, written = result.metric, metric_format(result.metric)
    compared = {comparison.name: comparison for comparison in cell.comparisons}
    unit = difference_scale(metric)[1]
    columns = ["arm", "seeds", metric_title(metric), "95 %", f"difference{f', {unit}' if unit else ''}", "95 %"]
    columns += ["p", "p, Holm", "wins", "95 % over images"]
    rows: list[list[Any]] = []
    for arm in cell.arms:
        row: list[Any] = [arm.name, len(arm.values), Cell(written(arm.mean), arm.mean)]
        row.append(_interval(arm.interval, written))
        comparison = compared.get(arm.name)
        if comparison is None:
            rows.append([*row, None, *[DASH] * 5])
            continue
        ties = f" ({comparison.ties}\u00a0equal)" if comparison.ties else ""

        def difference(value: float) -> str:
            return bare_difference(metric, value)

        row += [Cell(difference(comparison.difference), comparison.difference)]
        row += [_interval(comparison.interval, difference)]
        row += [format_p(comparison.p), format_p(comparison.adjusted_p)]
        row += [f"{comparison.wins}\u00a0of\u00a0{comparison.seeds}{ties}"]
        rows.append([*row, _interval(comparison.item_interval, difference)])
    return Table("results", cell.title, columns, rows)


def _interval(interval: Interval | None, written: Written) -> str:
    """An interval that stays on one line."""
    return format_interval(interval, written).replace(" ", "\u00a0")


def budget_table(cell: CellResult) -> Table:
    """One row an arm: what it was given and what it took; what differs from the first is marked."""
    columns = ["arm", "steps", "images seen", "parameters", "pre-training steps", "pre-training images"]
    columns += ["time", "pre-training time", "peak memory"]
    first = cell.arms[0] if cell.arms else None
    pretrained = any(arm.budget.pretraining_steps for arm in cell.arms)
    kept = [index for index, name in enumerate(columns) if pretrained or not name.startswith("pre-training")]
    rows = [_budget_row(arm, first or arm) for arm in cell.arms]
    return Table("budget", cell.title, [columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _budget_row(arm: ArmResult, first: ArmResult) -> list[Any]:
    given = [Cell(format_number(ours), ours, fault=ours != theirs) for _, ours, theirs in budget_pairs(arm, first)]
    return [
        arm.name,
        *given,
        Cell(format_duration(arm.seconds), arm.seconds),
        Cell(format_duration(arm.pretraining_seconds), arm.pretraining_seconds),
        Cell(format_bytes(arm.peak_memory_bytes), arm.peak_memory_bytes),
    ]


def seed_table(cell: CellResult, result: StudyResult, seeds: int, folder: Path) -> Table:
    """One row a seed, one column an arm; each value leads to the report of its run.

    Args:
        cell: Whose runs.
        result: Of the study.
        seeds: Planned.
        folder: Of the page; addresses are relative to it.
    """
    written = metric_format(result.metric)
    rows: list[list[Any]] = []
    for seed in range(seeds):
        row: list[Any] = [seed]
        for arm in cell.arms:
            run = arm.runs.get(seed)
            if run is None:
                row.append(None)
                continue
            href = quote(Path(os.path.relpath(run.folder / "report.html", folder)).as_posix())
            row.append(Cell(written(arm.values[seed]), arm.values[seed], href=href))
        rows.append(row)
    return Table("seeds", cell.title, ["seed", *(arm.name for arm in cell.arms)], rows)


def to_markdown(table: Table) -> str:
    """A table in GitHub's Markdown; what is coloured on the page is marked with an exclamation mark."""
    lines = [
        table.columns,
        ["---"] * len(table.columns),
        *([_markdown_cell(value) for value in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_cell(value: Any) -> str:
    text = value.text if isinstance(value, Cell) else format_cell(value)
    text = text.replace("|", "\\|").replace("\n", " ")
    return f"**{text} (!)**" if isinstance(value, Cell) and value.fault else text
