"""The tables of a study, for the page and for Markdown alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vision_train.artefacts import Table
from vision_train.recipe import to_plain
from vision_train.report.formats import (
    format_bytes,
    format_cell,
    format_duration,
    format_number,
)
from vision_train.report.grid import Cell
from vision_train.report.judged_metric import JudgedMetric
from vision_train.run.plan import LAST
from vision_train.study.judgement import Comparison
from vision_train.study.plan import UNSEEN, differing_keys
from vision_train.study.resolved import ResolvedArm
from vision_train.study.results import ArmResult, CellResult, StudyResult, measured_value
from vision_train.study.runs import Run
from vision_train.study.study import Study
from vision_train.study.used import AUTOMATIC_KEYS, DASH, Used, keys_left, phase_recipe
from vision_train.study.words import budget_pairs, format_interval, format_p


def recipe_diff_table(study: Study, result: StudyResult) -> Table:
    """Keys whose resolved values differ between arms, and what follows from them for steps, rate and memory.

    What a recipe leaves to the machine is that of the runs: the values that they found.
    """
    arms, resolved = study.plan.arms, study.resolved
    used = [
        [Used(of_arm[cell], _runs(result, cell, arm.name)) for cell in range(len(of_arm))]
        for arm, of_arm in zip(arms, resolved, strict=True)
    ]
    rows: list[list[Any]] = []

    def row(name: str, values: Sequence[Sequence[str]]) -> None:
        """One row of a value for each cell of each arm; values that are the same in all cells are given once."""
        rows.append([name, *(" / ".join(of_arm) if len(set(of_arm)) > 1 else of_arm[0] for of_arm in values)])

    phases = dict.fromkeys(phase.name for of_arm in resolved for s in of_arm for phase in s.phases)
    for name in sorted(phases, key=lambda name: name == LAST, reverse=True):
        prefix = "" if name == LAST else f"{name}: "
        for key in _differing(resolved, name):
            row(prefix + key, [[each.value(name, key) for each in of_arm] for of_arm in used])
    row("→ steps", [[each.steps() for each in of_arm] for of_arm in used])
    row("→ effective learning rate", [[each.learning_rate() for each in of_arm] for of_arm in used])
    measured = [{arm.name: format_bytes(arm.peak_memory_bytes) for arm in cell.arms} for cell in result.cells]
    row("→ peak memory, measured", [[of_cell.get(arm.name, DASH) for of_cell in measured] for arm in arms])
    return Table("recipe_diff", "", ["resolved key", *(arm.name for arm in arms)], rows)


def _runs(result: StudyResult, cell: int, name: str) -> list[Run]:
    """The finished runs of an arm."""
    return [run for arm in result.cells[cell].arms if arm.name == name for run in arm.runs.values()]


def _differing(resolved: Sequence[Sequence[ResolvedArm]], phase: str) -> list[str]:
    """Keys of a phase that differ between arms in some cell.

    Where an arm has no such phase, also those in which the phase differs from the recipe that it trains for.
    """
    keys: dict[str, None] = {}
    for cell in range(len(resolved[0])):
        recipes = [phase_recipe(of_arm[cell], phase) for of_arm in resolved]
        keys |= dict.fromkeys(differing_keys([to_plain(recipe) for recipe in recipes if recipe], UNSEEN))
        if None in recipes:
            for of_arm, recipe in zip(resolved, recipes, strict=True):
                if recipe:
                    keys |= dict.fromkeys(differing_keys([to_plain(recipe), to_plain(of_arm[cell].recipe)], UNSEEN))
    if phase != LAST:
        return [key for key in keys if key != "run.pretrain"]
    # These say `auto` in their own rows, also where all arms leave them to the machine, which may find other values.
    keys.pop(AUTOMATIC_KEYS, None)
    return list(keys | dict.fromkeys(key for of_arm in resolved for arm in of_arm for key in keys_left(arm.recipe)))


def result_table(cell: CellResult, result: StudyResult, study: Study) -> Table:
    """One row an arm: level over the seeds or folds, difference to the first, tests."""
    metric, written = result.metric, result.metric.format
    compared = {comparison.name: comparison for comparison in cell.comparisons}
    unit = metric.unit
    several = f", all {result.tests}" if result.tests > 1 else ""
    drawn, noun = study.plan.draws_noun, study.noun
    columns = ["arm", drawn, metric.title, "95 % of the mean", f"difference{f', {unit}' if unit else ''}"]
    columns += [f"95 % over {drawn}{several}", f"95 % over {noun}{several}"]
    columns += [f"p × {result.tests}" if several else "p", "wins"]
    rows: list[list[Any]] = []
    for arm in cell.arms:
        row: list[Any] = [arm.name, len(arm.values), Cell(written(arm.mean), arm.mean)]
        row.append(format_interval(arm.interval, written))
        if comparison := compared.get(arm.name):
            rows.append([*row, *_compared(comparison, metric)])
        else:
            rows.append([*row, None, *[DASH] * 4])
    return Table("results", cell.title, columns, rows)


def _compared(comparison: Comparison, metric: JudgedMetric) -> Iterator[Any]:
    difference = metric.format_difference

    yield Cell(difference(comparison.difference), comparison.difference)
    yield format_interval(comparison.interval, difference)
    covered = comparison.own_samples and comparison.interval
    yield "covered" if covered else format_interval(comparison.item_interval, difference)
    yield format_p(comparison.p)
    planned = comparison.seeds + comparison.failed + comparison.first_failed
    parts = [f"{comparison.wins} of {planned}"]
    parts += [f"{comparison.ties} equal"] if comparison.ties else []
    parts += [f"{comparison.failed} failed"] if comparison.failed else []
    parts += [f"the first failed on {comparison.first_failed}"] if comparison.first_failed else []
    yield ", ".join(part.replace(" ", "\u00a0") for part in parts)


def budget_table(cell: CellResult) -> Table:
    """One row an arm: what it was given and what it took; what differs from the first is marked."""
    rows = [_budget_row(arm) for arm in cell.arms]
    pretrained = any(arm.budget.pretraining_steps for arm in cell.arms)
    columns = [name for name in (rows[0] if rows else {"arm": None}) if pretrained or not name.startswith("pre-")]
    return Table("budget", cell.title, columns, [[row[name] for name in columns] for row in rows])


def _budget_row(arm: ArmResult) -> Mapping[str, Any]:
    given = {name: Cell(format_number(ours), ours, fault=ours != theirs) for name, ours, theirs in budget_pairs(arm)}
    return {
        "arm": arm.name,
        **given,
        "time": Cell(format_duration(arm.seconds), arm.seconds),
        "pre-training: time": Cell(format_duration(arm.pretraining_seconds), arm.pretraining_seconds),
        "peak memory": Cell(format_bytes(arm.peak_memory_bytes), arm.peak_memory_bytes),
    }


def seed_table(cell: CellResult, result: StudyResult, study: Study) -> Table:
    """One row a seed, or a fold of one, one column an arm; each value leads to the report of its run.

    Args:
        cell: Whose runs.
        result: Of the study.
        study: Addresses are relative to its folder.
    """
    written = result.metric.format
    rows: list[list[Any]] = []
    for draw in study.plan.draws:
        row: list[Any] = [draw.seed] if draw.fold is None else [draw.seed, draw.fold]
        for arm in cell.arms:
            run = arm.runs.get(draw)
            if run is None:
                row.append(None)
                continue
            value = measured_value(run, result.metric.name)
            href = quote(Path(os.path.relpath(run.folder / "report.html", study.path)).as_posix())
            row.append(Cell(written(value), value, href=href))
        rows.append(row)
    folds = [] if study.plan.folds is None else ["fold"]
    return Table("seeds", cell.title, ["seed", *folds, *(arm.name for arm in cell.arms)], rows)


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
