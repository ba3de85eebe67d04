"""What the arms of a verdict came to: figures for the summary, tables for the report, and the sentence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from vision_train.artefacts import Artefact, SeedValues, Table, read_artefact
from vision_train.data.module import POOL_SPLIT
from vision_train.recipe import Recipe
from vision_train.report.formats import format_percent
from vision_train.report.judged_metric import JudgedMetric, describe_judged
from vision_train.report.measured_samples import common_samples, have_own_samples, read_items, register_statistics
from vision_train.run.delivery import delivered
from vision_train.run.directory import RunDirectory
from vision_train.run.parts import phases_of
from vision_train.run.plan import FinishedPhase
from vision_train.run.sample_lists import SAMPLES_FILE, read_samples
from vision_train.run.verdict import chosen_factors, tried_rates
from vision_train.run.verdict_arms import LABELLED, METHOD, SELF_POOL, Arm, arms_of, length_of, shares_of_labels
from vision_train.semi.health_log import SIGNS
from vision_train.semi.monitor import ORIGIN
from vision_train.semi.verdict import Contrast, PoolVerdict, best_control, contrast, is_at_chance
from vision_train.semi.worth import worth_sentence
from vision_train.statistics import mean_interval
from vision_train.wording import count_of

METHODS = {
    "mean_teacher": "Mean teacher",
    "freematch": "FreeMatch",
    "fixmatch": "FixMatch",
    "softmatch": "SoftMatch",
    "self_training": "Self-training",
    "active_rounds": "Active retraining",
}
"""How methods are spoken of."""


@dataclass(frozen=True)
class MeasuredRun:
    """One seed of an arm."""

    seed: int
    folder: Path
    """Where its artefacts lie."""
    figures: dict[str, float | int]
    steps: int
    """Optimiser steps, those aside that all arms share."""
    guesses: bool
    """Whether its result could be that of guessing."""


@dataclass(frozen=True)
class Conclusion:
    """What a run says of itself and its arms."""

    figures: dict[str, float | int | str | bool | None]
    """For the summary."""
    artefacts: list[Artefact]
    sentence: str


def conclude_verdict(
    directory: RunDirectory, recipe: Recipe, finished: Sequence[FinishedPhase], shared: Sequence[str]
) -> Conclusion:
    """Judge the method of a run by all of its arms.

    Args:
        directory: The run, with all phases trained.
        recipe: Its recipe, which asks for a verdict.
        finished: All phases.
        shared: Names of phases with which all arms begin.
    """
    register_statistics(recipe.task)
    select = recipe.run.select
    metric = describe_judged(f"test/{select.metric.partition('/')[2]}", list(directory.read_described().values()))
    arms = {arm.key: arm for arm in arms_of(recipe)}
    runs = {key: _measured(directory, recipe, key, finished, shared) for key in arms}
    controls = [key for key, arm in arms.items() if arm.is_control]
    chosen = best_control({key: _values(runs[key], select.metric) for key in controls}, select.mode)
    judged = _Judge(recipe, metric, runs)
    verdict = PoolVerdict(
        recipe.semi.method,
        replace(judged.against(chosen), other=arms[chosen].name),
        judged.against(SELF_POOL),
        at_chance=is_at_chance({key: [run.guesses for run in of_arm] for key, of_arm in runs.items()}),
    )
    own = [done for done in finished if not done.part]
    samples = read_samples(own[-1].folder / SAMPLES_FILE) or {}
    worth = _worth(recipe, metric, runs, len(samples.get("train", [])))
    pool = count_of(len(samples.get(POOL_SPLIT, [])), f"unlabelled {recipe.kind.noun}")
    doubts = rates_at_an_end(recipe, chosen_factors(recipe, finished), (LABELLED, chosen))
    sentence = " ".join(filter(None, (_sentence(verdict, metric, runs[METHOD][0], pool, worth), doubts)))
    artefacts: list[Artefact] = [
        replace(_arms_table(list(arms.values()), chosen, runs, judged), note=sentence),
        _rates_table(recipe, finished, metric),
        _seed_values(arms, runs, metric),
    ]
    return Conclusion(verdict.summary(), artefacts, sentence)


@dataclass(frozen=True)
class _Judge:
    """Compares the method with other arms."""

    recipe: Recipe
    metric: JudgedMetric
    runs: dict[str, list[MeasuredRun]]

    def against(self, other: str) -> Contrast:
        """The method minus another arm, by its key.

        Each difference is judged at 5 % by itself: that a method helped takes both of them, which is rarer than each.
        """
        ours, theirs = self.runs[METHOD], self.runs[other]
        samples = common_samples([*ours, *theirs], self.metric.name)
        resampled = None
        if samples is not None:
            of_seed, other_of_seed = ({run.seed: run for run in of_arm} for of_arm in (ours, theirs))
            resampled = samples.difference(of_seed, other_of_seed, sorted(of_seed))
        return contrast(
            other,
            _values(ours, self.metric.name),
            _values(theirs, self.metric.name),
            resampled,
            self.recipe.run.select.mode,
            own_samples=have_own_samples([*ours, *theirs], self.metric.name),
        )


def _measured(
    directory: RunDirectory, recipe: Recipe, key: str, finished: Sequence[FinishedPhase], shared: Sequence[str]
) -> list[MeasuredRun]:
    """The runs of an arm, in the order of the seeds; the run itself is the first one of the method."""
    verdict, runs = recipe.semi.verdict, list[MeasuredRun]()
    assert verdict is not None
    for place in range(verdict.seeds):
        is_own = key == METHOD and place == 0
        phases = phases_of("" if is_own else f"{key}.{place}", finished)
        result = delivered(phases, recipe.run.select)
        folder = directory.path if is_own else result.folder
        steps = length_of(phases, shared).steps
        runs.append(MeasuredRun(recipe.seed + place, folder, result.figures, steps, result.guesses))
    return runs


def _values(runs: Sequence[MeasuredRun], metric: str) -> dict[int, float]:
    return {run.seed: float(run.figures[metric]) for run in runs}


def _sentence(verdict: PoolVerdict, metric: JudgedMetric, own: MeasuredRun, pool: str, worth: str) -> str:
    """The verdict, what the pool is worth, and what the teacher made of it."""
    name = f"{METHODS[verdict.arm]} with {pool}"
    unit = f" {metric.unit}" if metric.unit else ""
    tested = len(read_items(own.folder, "test").ids)
    spoken = replace(verdict, arm=name).sentence(tested, partial(metric.format_difference, decimals=1), unit, worth)
    return " ".join(filter(None, (spoken, _health(own.figures), doubts_of_origin(own.folder))))


def _health(figures: dict[str, float | int]) -> str:
    """What the teacher made of the pool at the best epoch of the run, where it counted that."""
    accepted, right = (figures.get(f"val/pool_{name}") for name in ("accepted", "accuracy"))
    parts = [f"{format_percent(accepted)} of the pool's labels were accepted"] if accepted is not None else []
    parts += [f"an estimated {format_percent(right)} of them right"] if parts and right is not None else []
    return f"At the best epoch {', '.join(parts)}." if parts else ""


def doubts_of_origin(run: Path) -> str:
    """That the pool of a run looked as if it came from elsewhere, or was known already, in a sentence; else nothing."""
    file = RunDirectory(run).artefacts / f"{SIGNS}.json"
    signs = read_artefact(file) if file.is_file() else None
    rows = signs.rows if isinstance(signs, Table) else []
    said = [str(message) for figure, *_, message in rows if figure == ORIGIN]
    return f"{said[0][:1].upper()}{said[0][1:]}." if said else ""


def _arms_table(arms: list[Arm], chosen: str, runs: dict[str, list[MeasuredRun]], judged: _Judge) -> Table:
    """One row an arm: all seeds, their mean, its interval, validation, steps and what the arm is for."""
    metric, select = judged.metric, judged.recipe.run.select
    seeds = [run.seed for run in runs[METHOD]]
    roles = {METHOD: "the method", SELF_POOL: "the method on labelled images", chosen: "best control by validation"}
    rows = []
    for arm in arms:
        values = [float(run.figures[metric.name]) for run in runs[arm.key]]
        low, high = (metric.format(end) for end in mean_interval(values, shares=metric.is_share))
        validation = float(np.mean([run.figures[select.metric] for run in runs[arm.key]]))
        steps = {run.steps for run in runs[arm.key]}
        rows.append(
            [
                arm.name,
                *(metric.format(value) for value in values),
                metric.format(float(np.mean(values))),
                f"{low} to {high}",
                metric.format(validation),
                ", ".join(f"{each:,}" for each in sorted(steps)),
                roles.get(arm.key, "control" if arm.is_control else "for the worth in labels"),
            ]
        )
    columns = [
        "arm",
        *(f"seed {seed}" for seed in seeds),
        "mean",
        "95 % of the mean",
        f"mean {metric.on('val')}",
        "steps",
        "role",
    ]
    return Table("verdict_arms", f"{metric.title} of all arms", columns, rows)


def _rates_table(recipe: Recipe, finished: Sequence[FinishedPhase], metric: JudgedMetric) -> Table:
    """How arms came to their learning rates."""
    chosen, select = chosen_factors(recipe, finished), recipe.run.select
    rows = [
        [arm.name, f"{factor * recipe.optim.lr:g}", value, "yes" if factor == chosen[arm.key] else ""]
        for arm in arms_of(recipe)
        for factor, value in tried_rates(arm, finished, select).items()
    ]
    note = (
        "Tried on a seed outside the verdict. All arms that train the whole network on labelled images alone take the "
        f"rate that is chosen for the arm `labelled`. {rates_at_an_end(recipe, chosen, list(chosen))}"
    ).rstrip()
    return Table(
        "verdict_rates", "Learning rates of the controls", ["arm", "optim.lr", metric.on("val"), "chosen"], rows, note
    )


def rates_at_an_end(recipe: Recipe, chosen: Mapping[str, float], keys: Collection[str]) -> str:
    """That a better rate may lie beyond those that were tried, in sentences; nothing where the best lies among them.

    Args:
        recipe: As it was asked for.
        chosen: The factor that each arm chose of those that it tried, by the arm's key.
        keys: The arms to speak of.
    """
    tried = [arm for arm in arms_of(recipe) if arm.key in keys and arm.key in chosen]
    said = []
    for end, beyond, last in (("highest", "higher", max), ("lowest", "lower", min)):
        if names := [arm.name for arm in tried if chosen[arm.key] == last(arm.factors)]:
            said.append(
                f"The best rate of {' and '.join(names)} is the {end} that was tried; a {beyond} one may do better."
            )
    return " ".join(said)


def _seed_values(arms: dict[str, Arm], runs: dict[str, list[MeasuredRun]], metric: JudgedMetric) -> SeedValues:
    values = {arm.name: list(_values(runs[key], metric.name).values()) for key, arm in arms.items()}
    note = "Dots are seeds, the mark is their mean, the bar its 95 % interval."
    written: Literal["number", "percent"] = "percent" if metric.unit else "number"
    return SeedValues("verdict_seeds", f"{metric.title} of each seed", metric.title, written, values, note)


def _worth(recipe: Recipe, metric: JudgedMetric, runs: dict[str, list[MeasuredRun]], labels: int) -> str:
    """How many labels the pool is worth, in a sentence; nothing where it was not asked.

    Args:
        recipe: Says whether it was.
        metric: A share of which 1 is the best, or an error.
        runs: Of all arms.
        labels: Labelled images of the run.
    """
    assert recipe.semi.verdict is not None
    if not recipe.semi.verdict.worth:
        return ""
    shares = {**shares_of_labels(recipe), LABELLED: 1.0}
    is_error = recipe.run.select.mode == "min"

    def errors(key: str) -> list[float]:
        values = _values(runs[key], metric.name).values()
        return [value if is_error else 1 - value for value in values]

    curve = np.array([errors(key) for key in shares]).T
    counts = [round(share * labels) for share in shares.values()]
    return worth_sentence(counts, curve.tolist(), errors(METHOD), labels)
