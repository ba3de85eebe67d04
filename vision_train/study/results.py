"""What the finished runs of a study came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vision_train.errors import UserError
from vision_train.files import read_mapping
from vision_train.recipe import Recipe, load_recipe
from vision_train.report.judged_metric import JudgedMetric, describe_judged
from vision_train.report.measured_samples import common_samples, have_own_samples, register_statistics
from vision_train.statistics import Interval, mean_interval, overlap_of
from vision_train.study.judgement import Comparison, Pair, compare_pair
from vision_train.study.plan import Draw
from vision_train.study.resolved import ResolvedArm
from vision_train.study.runs import Run, chain, read_record
from vision_train.study.study import Study

Measured = dict[Draw, Run]
"""Draw -> a finished run."""


@dataclass(frozen=True)
class Budget:
    """What a run was given: arms of a fair comparison have it in common. Means over the draws.

    Pre-training that arms share is counted for each of them.
    """

    steps: float
    samples: float
    parameters: float
    training_samples: int
    pretraining_steps: float
    pretraining_samples: float
    pretraining_training_samples: int


@dataclass(frozen=True)
class ArmResult:
    """An arm in one cell."""

    name: str
    runs: Measured
    """All that are finished."""
    values: dict[Draw, float]
    """Draw -> the headline metric on the test split; of the draws that the first arm has too, as all that follows."""
    mean: float
    interval: Interval | None
    """Over the draws, with 95 % for itself; None for a single one."""
    budget: Budget
    seconds: float
    """Training time of a run, the mean over the draws."""
    pretraining_seconds: float
    peak_memory_bytes: float
    """The largest over the draws, pre-training included."""
    first_budget: Budget
    """Budget of the first arm over the same draws; its own if the two have none in common."""


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

    metric: JudgedMetric
    mode: str
    tests: int
    """Comparisons that are planned, and so judged together."""
    cells: tuple[CellResult, ...]
    conditions: tuple[str, ...] = ()
    """Versions, devices and numbers of threads that differ between runs, in words."""
    most_jobs: int | None = None
    """The largest number of runs that were trained at a time; None if no run says."""


def collect(study: Study, failed: Collection[Path] = ()) -> StudyResult:
    """Read the finished runs and compare every arm with the first, in every cell.

    Args:
        study: The folder.
        failed: Run directories of runs that were tried and came to nothing, unlike those still to come.
    """
    plan = study.plan
    register_statistics(plan.arms[0].recipes[0].task)
    metric = describe_judged(plan.metric, study.resolved[0][0].metrics)
    cells = [_cell(study, cell, title, failed, metric) for cell, title in enumerate(plan.cells)]
    finished = {
        run.folder: run for cell in cells for arm in cell.arms for last in arm.runs.values() for run in chain(last)
    }
    known = [run.conditions for run in finished.values() if run.conditions.is_file()]
    jobs = [read_mapping(file, "restore or delete it")["jobs"] for file in known]
    conditions = _differing_conditions(finished)
    return StudyResult(
        metric,
        plan.select.mode,
        plan.comparisons,
        tuple(cells),
        tuple(conditions),
        max(jobs, default=None),
    )


def measured_value(run: Run, metric: str) -> float:
    """A finished run's value of a metric.

    Raises:
        UserError: It is no number.
    """
    value = _summary(run.folder)[metric]
    if not isinstance(value, int | float):
        raise UserError(
            f"{run.folder / 'summary.json'}: {metric} is {value!r} and no number; restore the file, or delete the run"
        )
    return value


def steps_of_run(run: Run) -> float:
    """Optimiser steps of all phases of a finished run, those of pre-training aside."""
    return _total(_summary(run.folder), "steps")


def _cell(study: Study, cell: int, title: str, failed: Collection[Path], metric: JudgedMetric) -> CellResult:
    plan, is_share = study.plan, metric.is_share
    planned = [[study.run(arm, cell, draw) for draw in plan.draws] for arm in range(len(plan.arms))]
    measured = [{run.draw: run for run in runs if run.finished} for runs in planned]
    failures = [{run.draw for run in runs if run.folder in failed and not run.finished} for runs in planned]
    finished = [run for runs in measured for run in runs.values()]
    # Each fold has test samples of its own, and so has each seed of some generated data.
    samples = None if plan.folds else common_samples(finished, plan.metric)
    own_samples = plan.folds is not None or have_own_samples(finished, plan.metric)
    resolved, first = [of_arm[cell] for of_arm in study.resolved], measured[0]
    arms, comparisons = [], []
    for index, arm in enumerate(plan.arms):
        runs = measured[index]
        common = sorted(runs.keys() & first.keys())
        if not runs:
            continue
        drawn = common or sorted(runs)
        budget = _budget(runs, drawn, resolved[index])
        first_budget = _budget(first, common, resolved[0]) if common else budget
        arms.append(_arm_result(arm.name, runs, drawn, metric, plan.folds, budget, first_budget))
        if index and common:
            pair = Pair(
                name=arm.name,
                first=plan.arms[0].name,
                values={draw: measured_value(runs[draw], plan.metric) for draw in common},
                first_values={draw: measured_value(first[draw], plan.metric) for draw in common},
                test_samples=resolved[0].test_samples,
                noun=study.noun,
                folds=plan.folds,
                is_share=is_share,
                resampled=None if samples is None else samples.difference(runs, first, common),
                own_samples=own_samples,
                failed=len(failures[index] & first.keys()),
                first_failed=len(failures[0] & runs.keys()),
                earlier_readings=_earlier_readings(study, arm.name),
            )
            comparisons.append(compare_pair(pair, plan.select.mode, plan.comparisons))
    return CellResult(title, tuple(arms), tuple(comparisons))


def _earlier_readings(study: Study, name: str) -> tuple[int, ...]:
    """Smaller numbers of seeds at which an arm and the first were judged before."""
    both = {name, study.plan.arms[0].name}
    seeds = {reading["seeds"] for reading in study.readings() if both <= {*reading["arms"]}}
    return tuple(sorted(count for count in seeds if count < study.plan.seeds))


def _arm_result(
    name: str,
    runs: Measured,
    drawn: list[Draw],
    metric: JudgedMetric,
    folds: int | None,
    budget: Budget,
    first_budget: Budget,
) -> ArmResult:
    values = {draw: measured_value(runs[draw], metric.name) for draw in drawn}
    phases = [_summary(run.folder) for draw in drawn for run in chain(runs[draw])]
    several = len(values) > 1
    overlap = overlap_of(folds)
    return ArmResult(
        name=name,
        runs=runs,
        values=values,
        mean=float(np.mean(list(values.values()))),
        interval=mean_interval([*values.values()], shares=metric.is_share, bounds=metric.bounds, overlap=overlap)
        if several
        else None,
        budget=budget,
        seconds=_mean_total(runs, drawn, "seconds"),
        pretraining_seconds=_mean_before(runs, drawn, "seconds"),
        peak_memory_bytes=max(summary["train/peak_memory_bytes"] for summary in phases),
        first_budget=first_budget,
    )


def _budget(runs: Measured, drawn: list[Draw], resolved: ResolvedArm) -> Budget:
    return Budget(
        steps=_mean_total(runs, drawn, "steps"),
        samples=_mean_total(runs, drawn, "samples"),
        parameters=_mean(runs, drawn, "model/parameters"),
        training_samples=resolved.phases[-1].training_samples,
        pretraining_steps=_mean_before(runs, drawn, "steps"),
        pretraining_samples=_mean_before(runs, drawn, "samples"),
        pretraining_training_samples=sum(phase.training_samples for phase in resolved.phases[:-1]),
    )


def _mean(runs: Measured, drawn: Iterable[Draw], key: str) -> float:
    return float(np.mean([_summary(runs[draw].folder)[key] for draw in drawn]))


def _mean_total(runs: Measured, drawn: Iterable[Draw], what: str) -> float:
    """The mean over the draws of what all phases of a run took, those of pre-training aside."""
    return float(np.mean([_total(_summary(runs[draw].folder), what) for draw in drawn]))


def _mean_before(runs: Measured, drawn: Iterable[Draw], what: str) -> float:
    """The mean over the draws of what pre-training took."""
    return float(np.mean([sum(_total(_summary(run.folder), what) for run in chain(runs[draw])[:-1]) for draw in drawn]))


def _total(summary: dict[str, Any], what: str) -> float:
    """``steps``, ``samples`` or ``seconds`` of all phases of a run; runs of earlier versions had one phase."""
    total: float = summary.get(f"run/{what}", summary[f"train/{what}"])
    return total


def _differing_conditions(folders: Iterable[Path]) -> list[str]:
    """What the runs say of versions, devices, threads and number formats, where they do not all say the same."""
    recorded = [_environment(folder) for folder in folders]
    differing = []
    for name in ("vision-train", "torch", "device", "threads", "precision"):
        counts = Counter(environment[name] for environment in recorded if name in environment)
        if len(counts) > 1:
            differing.append(f"{name} {' and '.join(f'{value} in {runs} runs' for value, runs in counts.items())}")
    return differing


def forget_figures() -> None:
    """Forget what was read of runs: they may have been trained anew since."""
    _summary.cache_clear()
    _environment.cache_clear()
    recipe_of_run.cache_clear()


# Of finished runs alone, whose files change no more; the tables are written anew after each run.
@cache
def _summary(folder: Path) -> dict[str, Any]:
    return read_record(folder / "summary.json", folder)


@cache
def recipe_of_run(folder: Path) -> Recipe:
    """What a finished run was trained by, with all that it found itself."""
    return load_recipe(folder / "recipe.yaml", runnable=False)


@cache
def _environment(folder: Path) -> dict[str, Any]:
    file = folder / "environment.json"
    recorded = read_record(file, folder) if file.is_file() else {}
    known = {"vision-train": recorded.get("vision_train"), "torch": recorded.get("packages", {}).get("torch")}
    known |= {name: recorded.get(name) for name in ("device", "threads", "precision")}
    return {name: value for name, value in known.items() if value is not None}
