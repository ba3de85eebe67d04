"""What the finished runs of a study came to."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vision_train.artefacts import Items, read_artefact
from vision_train.compare import statistics
from vision_train.compare.comparison import Comparison, Pair, compare_pairs
from vision_train.compare.statistics import Interval
from vision_train.compare.study import Run, Study

Measured = dict[int, Run]
"""Seed -> a finished run that measured the headline metric."""
ItemValues = dict[Path, np.ndarray]
"""Run directory -> its values of N test items, in the same order for every run."""


@dataclass(frozen=True)
class Budget:
    """What a run was given: arms of a fair comparison have it in common. Means over the seeds.

    Pre-training that arms share is counted for each of them.
    """

    steps: float
    images: float
    parameters: float
    pretraining_steps: float
    pretraining_images: float


@dataclass(frozen=True)
class ArmResult:
    """An arm in one cell, over its finished seeds."""

    name: str
    runs: Measured
    values: dict[int, float]
    """Seed -> the headline metric on the test split."""
    mean: float
    interval: Interval | None
    """Over the seeds; None for a single one."""
    item_interval: Interval | None
    """Over the test items, for these runs; None where the metric is no mean over items."""
    budget: Budget
    seconds: float
    """Training time of a run, the mean over the seeds."""
    pretraining_seconds: float
    peak_memory_bytes: float
    """The largest over the seeds, pre-training included."""


@dataclass(frozen=True)
class CellResult:
    """All arms at one value of the grid."""

    title: str
    arms: tuple[ArmResult, ...]
    """Those with a finished run, in the order of the plan."""
    comparisons: tuple[Comparison, ...]
    """Each further arm against the first; empty where the first has no result."""


@dataclass(frozen=True)
class StudyResult:
    """A study as far as it came."""

    metric: str
    mode: str
    cells: tuple[CellResult, ...]

    @property
    def comparisons(self) -> list[Comparison]:
        """Of all cells."""
        return [comparison for cell in self.cells for comparison in cell.comparisons]

    @property
    def tests(self) -> int:
        """How many comparisons could be tested; p values are adjusted for so many."""
        return sum(comparison.p is not None for comparison in self.comparisons)


def collect(study: Study) -> StudyResult:
    """Read the finished runs and compare every arm with the first, in every cell."""
    mode = study.plan.select.mode
    cells = [_cell(study, cell) for cell in range(len(study.plan.cells))]
    judged = iter(compare_pairs([pair for _, pairs in cells for pair in pairs], mode))
    return StudyResult(
        study.plan.metric,
        mode,
        tuple(
            CellResult(title, tuple(arms), tuple(islice(judged, len(pairs))))
            for title, (arms, pairs) in zip(study.plan.cells, cells, strict=True)
        ),
    )


def measured_value(run: Run, metric: str) -> float | None:
    """A finished run's value of a metric; None if it measured none or none that is finite."""
    return _summary(run.folder).get(metric)


def _cell(study: Study, cell: int) -> tuple[list[ArmResult], list[Pair]]:
    metric, arms = study.plan.metric, study.plan.arms
    measured = [_measured(study, arm, cell) for arm in range(len(arms))]
    items = _common_items([run for runs in measured for run in runs.values()], metric)
    results = [_arm_result(arm.name, runs, metric, items) for arm, runs in zip(arms, measured, strict=True) if runs]
    if not results or results[0].name != arms[0].name:
        return results, []
    first = results[0]
    pairs = [_pair(first, other, items) for other in results[1:] if other.values.keys() & first.values.keys()]
    return results, pairs


def _measured(study: Study, arm: int, cell: int) -> Measured:
    runs = (study.run(arm, cell, seed) for seed in range(study.plan.seeds))
    return {run.seed: run for run in runs if run.finished and measured_value(run, study.plan.metric) is not None}


def _arm_result(name: str, runs: Measured, metric: str, items: ItemValues) -> ArmResult:
    summaries = [_summary(run.folder) for run in runs.values()]
    earlier = [[_summary(before.folder) for before in _starts(run)] for run in runs.values()]
    values = {seed: summary[metric] for seed, summary in zip(runs, summaries, strict=True)}

    def mean(key: str) -> float:
        return float(np.mean([summary[key] for summary in summaries]))

    def mean_before(key: str) -> float:
        return float(np.mean([sum(summary[key] for summary in phases) for phases in earlier]))

    peaks = [summary["train/peak_memory_bytes"] for phases in [summaries, *earlier] for summary in phases]
    of_items = [items[run.folder] for run in runs.values()] if items else []
    return ArmResult(
        name=name,
        runs=runs,
        values=values,
        mean=float(np.mean(list(values.values()))),
        interval=statistics.mean_interval(list(values.values())) if len(values) > 1 else None,
        item_interval=statistics.item_interval(np.mean(of_items, axis=0)) if of_items else None,
        budget=Budget(
            mean("train/steps"),
            mean("train/images"),
            mean("model/parameters"),
            mean_before("train/steps"),
            mean_before("train/images"),
        ),
        seconds=mean("train/seconds"),
        pretraining_seconds=mean_before("train/seconds"),
        peak_memory_bytes=max(peaks),
    )


def _pair(first: ArmResult, other: ArmResult, items: ItemValues) -> Pair:
    pair = Pair(other.name, first.name, other.values, first.values)
    if not items:
        return pair
    ours, theirs = (np.mean([items[arm.runs[seed].folder] for seed in pair.seeds], axis=0) for arm in (other, first))
    return replace(pair, item_differences=ours - theirs)


def _starts(run: Run) -> list[Run]:
    return [*_starts(run.start), run.start] if run.start else []


def _common_items(runs: list[Run], metric: str) -> ItemValues:
    """The metric of each test item that all runs measured, in one order; empty if a run measured none by item."""
    found = [_items(run.folder, metric) for run in runs]
    if not found or not all(found):
        return {}
    common = sorted(set.intersection(*(set(values) for values in found)))
    return {run.folder: np.array([values[name] for name in common]) for run, values in zip(runs, found, strict=True)}


# Of finished runs alone, whose files change no more; the tables are written anew after each run.
@cache
def _summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


@cache
def _items(folder: Path, metric: str) -> dict[str, float]:
    split, _, name = metric.partition("/")
    file = folder / "artefacts" / f"{split}_items.json"
    if not file.is_file():
        return {}
    artefact = read_artefact(file)
    assert isinstance(artefact, Items)
    return dict(zip(artefact.ids, artefact.values.get(name, ()), strict=False))
