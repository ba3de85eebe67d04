"""What a method that learns from a pool is judged against: the recipes of all arms, made of the one that was asked for.

All arms take equally many optimiser steps, in epochs of as many batches. A method in phases validates in each of them,
and delivers its last phase, or the best of its rounds; so does the control that trains in the same phases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vision_train.data.kind import LABELLED as LABELLED_IMAGES
from vision_train.recipe import Recipe
from vision_train.recipe.semi_section import IN_PHASES
from vision_train.run.plan import FinishedPhase
from vision_train.run.steps import limits_of

METHOD, SELF_POOL, LABELLED = "method", "self-pool", "labelled"
FACTORS = (0.5, 1.0, 2.0)
"""The labelled arm tries the learning rate times each of these and takes the best. In the study by which this was
designed, the rate moved that arm by as much as any method did."""
FEW_WEIGHTS = (1.0, 3.0, 10.0)
"""Arms that train few weights try these: they take higher rates than a whole network."""
SHARES = {"half": 0.5, "quarter": 0.25}
"""Arm of the learning curve -> share of the labels that it takes."""


@dataclass(frozen=True)
class Arm:
    """One way to train, on every seed."""

    key: str
    """Begins the names of its phases."""
    name: str
    """As it is spoken of."""
    recipe: Recipe
    is_control: bool = True
    """Whether the method has to beat it, if it is the best of them."""
    factors: tuple[float, ...] = ()
    """The arm tries the learning rate times each of these before the study, and validation chooses the best."""


@dataclass(frozen=True)
class Length:
    """How long the run itself was trained, phases that parts share with it aside."""

    steps: int
    """Optimiser steps, of all its phases together."""
    epoch_batches: int
    """Batches of an epoch."""


def length_of(own: Sequence[FinishedPhase], shared: Sequence[str] = ()) -> Length:
    """The length of a finished run.

    Args:
        own: Its phases.
        shared: Names of those with which the arms begin as well.
    """
    counted = [done.figures for done in own if done.name not in shared]
    steps = sum(int(figures["train/steps"]) for figures in counted)
    return Length(steps, int(counted[-1]["train/epoch_batches"]))


def arms_of(recipe: Recipe, length: Length | None = None, chosen: Mapping[str, float] | None = None) -> list[Arm]:
    """The arms of a verdict, controls first, then the method on labelled images as its pool, then the method.

    Args:
        recipe: As it was asked for.
        length: That of the run; None leaves it as the recipe has it, to see whether the arms can be trained at all.
        chosen: Factor of the learning rate of arms that have found one, by key. That of the labelled arm is taken by
            all that train the whole network on labelled images alone.
    """
    semi, method, factors = recipe.semi, _judged_no_more(recipe), chosen or {}
    factor = factors.get(LABELLED, 1.0)
    labelled = with_rate(labelled_alone(method, length), factor)
    arms = [Arm(LABELLED, "labelled", labelled, factors=FACTORS)]
    larger = labelled.data.batch_size + max(1, round(semi.ratio * labelled.data.batch_size))
    in_larger_batches = replace(labelled, data=replace(labelled.data, batch_size=larger))
    arms.append(Arm("larger-batch", f"labelled, batch {larger}", in_larger_batches))
    if semi.method in IN_PHASES:
        without_pool = replace(method, semi=replace(method.semi, weight=0.0))
        arms.append(Arm("same-phases", "labelled, same phases", with_rate(_as_long(without_pool, length), factor)))
    on_weights = [*_on_a_checkpoint(recipe, labelled_alone(method, length), length)]
    # Those that train few weights have a rate of their own, another takes that of the labelled arm.
    own = {arm.key: factors.get(arm.key, 1.0) if arm.factors else factor for arm in on_weights}
    arms += [replace(arm, recipe=with_rate(arm.recipe, own[arm.key])) for arm in on_weights]
    arms += _with_fewer_labels(recipe, labelled)
    on_itself = replace(method, data=replace(method.data, unlabelled=LABELLED_IMAGES))
    arms.append(Arm(SELF_POOL, SELF_POOL, _as_long(on_itself, length), is_control=False))
    arms.append(Arm(METHOD, semi.method, _as_long(method, length), is_control=False))
    return arms


def labelled_alone(recipe: Recipe, length: Length | None) -> Recipe:
    """The same training without the pool."""
    alone = replace(recipe.semi, method="none", verdict=None)
    return _as_long(replace(recipe, semi=alone, data=replace(recipe.data, unlabelled=None)), length)


def with_rate(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with all that it says of the learning rate multiplied."""
    optim = recipe.optim
    rates = {key: factor * getattr(optim, key) for key in ("lr", "min_lr", "warmup_lr")}
    return replace(recipe, optim=replace(optim, **rates))


def shares_of_labels(recipe: Recipe) -> dict[str, float]:
    """Arms of a labelled-only learning curve, by their keys, with the share of the labelled images that each takes.

    Returns:
        Nothing where the recipe takes all labelled images there are, and cannot say to take less.
    """
    if (count := labels_per_class(recipe)) is None:
        return SHARES if hasattr(recipe.data, "share") else {}
    left = {round(share * count): (key, share) for key, share in reversed(SHARES.items()) if round(share * count)}
    return {key: number / count for number, (key, _) in left.items() if number < count}


def labels_per_class(recipe: Recipe) -> int | None:
    """How many labels of each class are drawn; None for all, and where nothing has a class."""
    count: int | None = getattr(recipe.data, "labels_per_class", None)
    return count


def _with_fewer_labels(recipe: Recipe, labelled: Recipe) -> Iterator[Arm]:
    """Labelled images alone, and fewer of them; with the same seed, more images contain fewer."""
    assert recipe.semi.verdict is not None
    if not recipe.semi.verdict.worth:
        return
    data, count = labelled.data, labels_per_class(recipe)
    for key, share in shares_of_labels(recipe).items():
        if count is not None:
            few = replace(data, labels_per_class=round(share * count))
        else:
            few = replace(data, share=share * data.share)
        yield Arm(key, f"labelled, a {key} of the labels", replace(labelled, data=few), is_control=False)


def _on_a_checkpoint(recipe: Recipe, labelled: Recipe, length: Length | None) -> Iterator[Arm]:
    """Controls that are asked for by name."""
    verdict = recipe.semi.verdict
    assert verdict is not None
    if not (verdict.frozen or verdict.lora or verdict.pretrain):
        return
    from vision_train.run.controls import frozen_recipe, lora_recipe, pretrain_on_pool

    if verdict.frozen:
        yield Arm("frozen", "frozen backbone", frozen_recipe(labelled), factors=FEW_WEIGHTS)
    if verdict.lora is not None:
        rank = verdict.lora.rank
        yield Arm("lora", f"LoRA of rank {rank}", lora_recipe(labelled, rank), factors=FEW_WEIGHTS)
    if verdict.pretrain:
        # It names the pool still, from which its first phase takes the images.
        pretrained = pretrain_on_pool(_judged_no_more(recipe))
        yield Arm("pretrained", "labelled, pre-trained on the pool", _as_long(pretrained, length))


def _judged_no_more(recipe: Recipe) -> Recipe:
    return replace(recipe, semi=replace(recipe.semi, verdict=None))


def _as_long(recipe: Recipe, length: Length | None) -> Recipe:
    """The recipe with the steps and epochs of the run. One in phases divides the length that it was asked to have.

    Several voters make a run longer than the recipe asks for. What trains in one phase then drops its learning rate
    after the share of its steps that the recipe says.
    """
    if length is None:
        return recipe
    data = replace(recipe.data, epoch_batches=length.epoch_batches)
    trainer: dict[str, Any] = {key: value for key, value in recipe.trainer.items() if key != "limit_train_batches"}
    if recipe.semi.method in IN_PHASES:
        return replace(recipe, data=data, trainer=trainer)
    per_epoch = math.ceil(length.epoch_batches / trainer.get("accumulate_grad_batches", 1))
    epochs, steps = limits_of(recipe)
    longer = length.steps / min((epochs or math.inf) * per_epoch, steps or math.inf)
    optim = replace(recipe.optim, milestones=[epoch * longer for epoch in recipe.optim.milestones])
    trainer |= {"max_epochs": None, "max_steps": length.steps}
    return replace(recipe, data=data, trainer=trainer, optim=optim)
