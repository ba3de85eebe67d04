"""The phases of methods that label the pool between phases: a burn-in or voters, then a student, or several rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vision_train.checkpoints import read_weights
from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.run.phase import scan
from vision_train.run.plan import LAST, Labelling, Phase, Reinitialisation
from vision_train.run.steps import limits_of
from vision_train.seeds import derive_seed
from vision_train.semi.rounds import Round, check_restarts, schedule_rounds
from vision_train.semi.teacher import BURN_IN_SHARES, Start
from vision_train.wording import percent

BURN_IN = "burn-in"
"""Name of the phase on labelled samples alone."""
ROUND = "round-"
"""How the names of all rounds but the last begin."""


def divided(asked: Phase, stored: Mapping[str, Recipe]) -> list[Phase]:
    """Divide the training of a recipe into the phases of its ``semi.method``.

    All phases together take the steps that the recipe asks for, and further voters as many as the burn-in each. Every
    phase has an optimiser and a schedule of its own; warm-up and milestones take the share of it that they take of the
    whole. Rounds after the first phase have seeds of their own, so that none repeats the draws of another. With
    ``semi.weight=0`` the phases are the same, and no sample of the pool is labelled.

    Args:
        asked: The phase that the recipe would be without a pool.
        stored: Recipes of the phases of a run that has begun, by name.

    Raises:
        UserError: Training is too short to be divided, or rounds too short to re-initialise in.
    """
    semi, share = asked.recipe.semi, _burn_in(asked, stored)
    if semi.method == "self_training":
        return _self_training(asked, share)
    schedule = _schedule(asked.recipe, share, semi.rounds.count)
    rules = semi.rounds.reinitialise
    if any(action not in ("keep", "shrink_perturb") for action in rules.values()):
        try:
            check_restarts(schedule)
        except ValueError as error:
            raise UserError(
                f"semi.rounds.reinitialise: rounds are shorter than the burn-in, {percent(share)} of the training, and "
                "what begins anew would not be trained to the end; lower semi.rounds.count or semi.burn_in, or let "
                "values `shrink_perturb`"
            ) from error
    return _rounds(asked, schedule)


def _burn_in(asked: Phase, stored: Mapping[str, Recipe]) -> float:
    """Share of the training that learns from labelled samples alone.

    Raises:
        UserError: None, and what training starts from is pre-trained by this run, on no labels of these classes.
    """
    recipe = asked.recipe
    if recipe.semi.burn_in is not None:
        asks_start = recipe.semi.weight and not recipe.semi.voting_runs
        if asked.start and asks_start and not recipe.semi.burn_in:
            raise UserError(
                f"semi.burn_in=0: run.pretrain={recipe.run.pretrain} is no run of the labelled classes to label the "
                "pool by; leave it at null, half of the training"
            )
        return recipe.semi.burn_in
    if stored:  # the start may be gone, or another, when the run goes on
        unit = _unit(recipe)
        return stored[BURN_IN].trainer[unit] / recipe.trainer[unit] if BURN_IN in stored else 0.0
    return BURN_IN_SHARES["other classes" if asked.start else _start_of(recipe)]


def _start_of(recipe: Recipe) -> Start:
    """What the weights that a recipe names know of the classes of its data."""
    checkpoint = recipe.model.checkpoint
    if not checkpoint:
        return "scratch"
    if not (isinstance(checkpoint, str) and Path(checkpoint).exists()):
        return "other classes"
    weights = read_weights(checkpoint, recipe.model.key_of(""))
    ours = weights.classes is not None and (weights.recipe or {}).get("task") == recipe.task
    return "same classes" if ours and weights.classes == scan(recipe).data.classes else "other classes"


def _rounds(asked: Phase, schedule: Sequence[Round]) -> list[Phase]:
    semi, unit, phases = asked.recipe.semi, _unit(asked.recipe), list[Phase]()
    count = schedule[-1].number
    for each in schedule:
        recipe = _shortened(asked.recipe, each.steps, unit)
        if each.number == 0:
            phases.append(replace(asked, name=BURN_IN, recipe=recipe))
            continue
        start = phases[-1].name if phases else asked.start
        teacher = (start,) if phases and start else ()
        stays = semi.rounds.policy == "cumulative" and each.number > 1
        phases.append(
            Phase(
                LAST if each.number == count else f"{ROUND}{each.number}",
                recipe,
                start,
                labels=Labelling(teacher, round=each.number, earlier=start if stays else None) if semi.weight else None,
                reinitialise=_reinitialisation(asked, phases, each.number),
                # With the seed of the phase before, the same images would come in the same order and augmentation.
                seed=derive_seed(asked.recipe.seed, "round", each.number) if phases else None,
            )
        )
    return phases


def _reinitialisation(asked: Phase, before: Sequence[Phase], number: int) -> Reinitialisation | None:
    rules = asked.recipe.semi.rounds.reinitialise
    if all(action == "keep" for action in rules.values()):
        return None
    burnt_in = BURN_IN if any(each.name == BURN_IN for each in before) else None
    return Reinitialisation(number, burnt_in, asked.start)


def _self_training(asked: Phase, share: float) -> list[Phase]:
    """Voters with seeds of their own, which share the labelled samples; then a student from the initial weights."""
    recipe, unit = asked.recipe, _unit(asked.recipe)
    semi, phases = recipe.semi, list[Phase]()
    if isinstance(semi.voters, list):
        labels = Labelling((), runs=tuple(semi.voters)) if semi.weight else None
        return [replace(asked, labels=labels)]
    schedule = _schedule(recipe, share, 1)
    if len(schedule) > 1:
        shortened = _shortened(recipe, schedule[0].steps, unit)
        for number in range(1, semi.voters + 1):
            own = replace(asked, name=BURN_IN if number == 1 else f"voter-{number}", recipe=shortened)
            phases.append(own if number == 1 else replace(own, seed=derive_seed(recipe.seed, "voter", number)))
    elif semi.voters > 1:
        raise UserError(f"semi.voters={semi.voters}: differ by their burn-in, and there is none; set semi.burn_in")
    labels = Labelling(tuple(each.name for each in phases)) if semi.weight else None
    return [*phases, replace(asked, recipe=_shortened(recipe, schedule[-1].steps, unit), labels=labels)]


def _schedule(recipe: Recipe, share: float, rounds: int) -> list[Round]:
    """Lengths of the phases, in whole epochs, or in steps where the recipe counts those."""
    unit = _unit(recipe)
    whole = recipe.trainer[unit]
    burn_in = math.ceil(round(share * whole, 6))
    try:
        return schedule_rounds(whole, 0, burn_in=burn_in, rounds=rounds)
    except ValueError as error:
        raise UserError(
            f"trainer.{unit}={whole}: a burn-in of {burn_in} leaves too few for {rounds} phase(s) with pseudo-labels; "
            "raise it, or lower semi.burn_in or semi.rounds.count"
        ) from error


def _unit(recipe: Recipe) -> str:
    """The key of the trainer that says how long training takes.

    Raises:
        UserError: Both do.
    """
    epochs, steps = limits_of(recipe)
    if epochs and steps:
        raise UserError(
            f"semi.method={recipe.semi.method}: divides the length of training into phases; give it either as "
            "trainer.max_epochs or as trainer.max_steps, and set the other to null"
        )
    return "max_steps" if steps else "max_epochs"


def _shortened(recipe: Recipe, length: int, unit: str) -> Recipe:
    """The recipe with a part of its length, and as small a part of what its schedule counts."""
    part, optim = length / recipe.trainer[unit], recipe.optim
    schedule: dict[str, Any] = {
        "warmup_epochs": optim.warmup_epochs * part,
        "warmup_steps": math.ceil(optim.warmup_steps * part),
        "milestones": [epoch * part for epoch in optim.milestones],
    }
    return replace(recipe, trainer={**recipe.trainer, unit: length}, optim=replace(optim, **schedule))
