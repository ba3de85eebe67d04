"""The plan of a run that asks for a verdict: the run itself, then controls beside it, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vision_train.data.kind import LABELLED
from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.recipe.run_section import Select
from vision_train.recipe.verdict_section import Verdict
from vision_train.run.delivery import delivered
from vision_train.run.parts import Part, Parts, phases_of
from vision_train.run.plan import PRETRAIN, FinishedPhase, Plan, plan_of
from vision_train.run.verdict_arms import (
    METHOD,
    Arm,
    arms_of,
    labels_per_class,
    length_of,
    shares_of_labels,
    with_rate,
)

RATES = "rate"
"""Begins the names of the parts that find the learning rate of an arm."""


def plan_run(recipe: Recipe, stored: Mapping[str, Recipe] | None = None) -> Plan:
    """The plan of a recipe, with the arms of its verdict if it asks for one.

    The run that was asked for comes first, and is the method's arm on its seed. Every arm begins with what the run was
    pre-trained on, once for all.

    Args:
        recipe: The recipe that was asked for.
        stored: As for :func:`plan_of`.

    Raises:
        UserError: As of :func:`plan_of`, or nothing could be judged.
    """
    own = plan_of(recipe, stored)
    verdict = recipe.semi.verdict
    if verdict is None:
        return own
    _check(recipe, verdict)
    known = {phase.name: phase.recipe for phase in own.known()}
    shared = tuple(phase.name for phase in own.known() if phase.name.startswith(PRETRAIN))
    study = Study(recipe, verdict, known, shared)
    return Parts(own, study.following, tuple(study.foreseen()), shared)


@dataclass(frozen=True)
class Study:
    """The arms beside a run."""

    recipe: Recipe
    verdict: Verdict
    known: Mapping[str, Recipe]
    """Recipes of the run's own phases that are certain, by name."""
    shared: tuple[str, ...]

    @property
    def seeds(self) -> list[int]:
        """Those that are judged, that of the run first."""
        return [self.recipe.seed + place for place in range(self.verdict.seeds)]

    def following(self, finished: Sequence[FinishedPhase]) -> Iterator[Part]:
        """The parts in order: first the learning rates, on a seed outside the study, then all arms, seed by seed."""
        length = length_of([done for done in finished if not done.part], self.shared)
        for arm in arms_of(self.recipe, length):
            for place, factor in enumerate(arm.factors):
                tried = replace(arm, recipe=_unstoppable(with_rate(arm.recipe, factor)))
                title = f"arm {arm.name}, learning rate x {factor:g}"
                yield self._part(f"{RATES}-{arm.key}.{place}", title, tried, self.recipe.seed + self.verdict.seeds)
        arms = arms_of(self.recipe, length, chosen_factors(self.recipe, finished))
        for place, seed in enumerate(self.seeds):
            for arm in arms:
                if place or arm.key != METHOD:  # the run itself is the method on the first seed
                    title = f"arm {arm.name}, seed {place + 1} of {self.verdict.seeds}"
                    yield self._part(f"{arm.key}.{place}", title, arm, seed)

    def foreseen(self) -> Iterator[Part]:
        """Each arm once, as far as it is known before the run's length is."""
        for arm in arms_of(self.recipe):
            part = self._part(f"{arm.key}.0", f"arm {arm.name}", arm, self.recipe.seed)
            again = self.verdict.seeds - (arm.key == METHOD)  # the run itself is one of the method
            yield replace(part, times=again + len(arm.factors))

    def _part(self, name: str, title: str, arm: Arm, seed: int) -> Part:
        recipe = replace(arm.recipe, seed=seed)
        # What the run pre-trains on is not read anew, nor the share of its burn-in found anew: phases of arms are as
        # long as its own. A control may pre-train on something else.
        same = recipe.run.pretrain == self.recipe.run.pretrain
        return Part(name, title, lambda: plan_of(recipe, self.known if same else {}))


def chosen_factors(recipe: Recipe, finished: Sequence[FinishedPhase]) -> dict[str, float]:
    """The factor of the learning rate at which each arm that tried several did best on validation images.

    Args:
        recipe: As it was asked for.
        finished: Phases that have ended, those that tried the rates among them.

    Returns:
        By the arm's key. Of equal factors, and where no rate learned anything, the one nearest to the recipe's.
    """
    select = recipe.run.select
    searching = [arm for arm in arms_of(recipe) if arm.factors]
    return {arm.key: best_factor(tried_rates(arm, finished, select), select.mode) for arm in searching}


def best_factor(tried: Mapping[float, float], mode: str) -> float:
    """The best of several factors by their metric; ``mode`` says whether more or less of it is better."""
    finite = {factor: value for factor, value in tried.items() if math.isfinite(value)}

    def rank(factor: float) -> tuple[float, float]:
        return finite[factor] if mode == "max" else -finite[factor], -abs(math.log(factor))

    return max(finite, key=rank, default=1.0)


def tried_rates(arm: Arm, finished: Sequence[FinishedPhase], select: Select) -> dict[float, float]:
    """Factor of the arm's learning rate -> the headline metric on validation images."""
    ends = {factor: phases_of(f"{RATES}-{arm.key}.{place}", finished) for place, factor in enumerate(arm.factors)}
    return {factor: float(delivered(end, select).figures.get(select.metric, math.nan)) for factor, end in ends.items()}


def _unstoppable(recipe: Recipe) -> Recipe:
    """A rate that is too high loses, and ends nothing."""
    return replace(recipe, run=replace(recipe.run, on_nan="continue"))


def _check(recipe: Recipe, verdict: Verdict) -> None:
    """Refuse what cannot be judged.

    Raises:
        UserError: There are no test samples, no validation by which to choose, no pool beyond the labelled samples, or
            nothing that a control starts from, or the method would know labels that its controls do not.
    """
    remedy = "or set semi.verdict=null"
    if recipe.kind.judged != "test":
        raise UserError(
            f"semi.verdict: task={recipe.task} has no test samples to judge by; take another task, {remedy}"
        )
    if recipe.data.unlabelled == LABELLED:
        raise UserError(
            "semi.verdict: data.unlabelled=labelled has no new images to judge, and the method would be compared with "
            f"itself; name images without labels, {remedy}"
        )
    if recipe.run.select.metric.partition("/")[0] != "val":
        raise UserError(
            f"run.select.metric={recipe.run.select.metric}: arms are chosen on validation samples and judged by the "
            f"same metric on test samples; choose one of val/..., {remedy}"
        )
    if not recipe.model.start and not recipe.run.pretrain and (verdict.frozen or verdict.lora):
        key = "frozen" if verdict.frozen else "lora"  # the first that is asked for
        raise UserError(
            f"semi.verdict.{key}: starts from weights, and model.checkpoint names none; name a file or run, or leave "
            "this control out"
        )
    if recipe.semi.voting_runs and _draws_labels(recipe):
        raise UserError(
            f"semi.voters={recipe.semi.voters}: these runs have learnt labels that other seeds of semi.verdict leave "
            f"in their pool, and no control knows them; let voters be a number of networks, {remedy}"
        )
    if verdict.worth and not shares_of_labels(recipe):
        raise UserError(
            "semi.verdict.worth: takes a half and a quarter of the labelled images; set data.labels_per_class to 2 or "
            "more, or semi.verdict.worth=false"
        )


def _draws_labels(recipe: Recipe) -> bool:
    """Whether the seed decides which training samples are labelled."""
    return labels_per_class(recipe) is not None or getattr(recipe.data, "share", 1.0) < 1
