"""The learning-rate schedule: a pure function of the step, so that a resumed run needs nothing but its step count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vision_train.recipe.optim_section import Optim
from vision_train.recipe.sections import FreezeFirst

RELEASED = "released"
"""Key of a group of parameters that are frozen at first."""


def schedule(
    step: int, *, options: Optim, total_steps: int, warmup_steps: int, milestones: Sequence[int] = ()
) -> float:
    """Multiplier of the peak learning rate at an optimiser step.

    Linear from ``warmup_lr`` to ``lr`` over the warm-up; then half a cosine to ``min_lr`` at ``total_steps``, a line to
    ``min_lr`` over the last ``decay_share`` of ``total_steps``, a factor of ``gamma`` from each milestone on, or
    constant.

    Args:
        step: Optimiser steps taken so far, from 0.
        options: The recipe's ``optim`` section.
        total_steps: Optimiser steps of the whole training phase.
        warmup_steps: Those of them that warm up.
        milestones: Steps from which the schedule ``step`` multiplies the rate by ``gamma`` once more.

    Returns:
        The learning rate of this step divided by ``options.lr``.
    """
    if step < warmup_steps:
        return _warming(step, options, warmup_steps)
    if options.schedule == "constant":
        return 1.0
    if options.schedule == "step":
        return options.gamma ** sum(step >= milestone for milestone in milestones)
    end = options.min_lr / options.lr
    if options.schedule == "warmup_stable_decay":
        falling = min(options.decay_share * total_steps, max(total_steps - warmup_steps, 1))
        return end + (1 - end) * min(max(total_steps - step, 0) / falling, 1.0)
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    return end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2


def count_warmup_steps(options: Optim, steps_per_epoch: int) -> int:
    """Optimiser steps of the warm-up, which a recipe gives in steps or in epochs."""
    return options.warmup_steps or round(options.warmup_epochs * steps_per_epoch)


def _warming(step: int, options: Optim, warmup_steps: int) -> float:
    """Multiplier of the peak rate after so many steps of a warm-up; 1 after it."""
    start = options.warmup_lr / options.lr
    return start + (1 - start) * step / warmup_steps if step < warmup_steps else 1.0


def count_frozen_steps(first: FreezeFirst | None, steps_per_epoch: int) -> int:
    """Optimiser steps after which ``model.freeze_first`` releases what it names; 0 where nothing is frozen so."""
    return round(first.epochs * steps_per_epoch) if first else 0


class StepSchedule(LambdaLR):
    """A schedule that goes on at the step of a checkpoint, at the rates of today's recipe."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = self.base_lrs
        super().load_state_dict(state_dict)
        self.base_lrs = own
        self._last_lr = [rate * factor(self.last_epoch) for rate, factor in zip(own, self.lr_lambdas, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def build_schedule(
    optimizer: Optimizer, options: Optim, *, total_steps: int, steps_per_epoch: int, release: int = 0
) -> StepSchedule:
    """The schedule of :func:`schedule` over an optimiser's groups, each relative to its own learning rate.

    Groups of parameters that are frozen at first have a rate of 0 up to the step ``release``. From there on they follow
    the others, through a warm-up of their own: to them, the optimiser is as new as it was to the others at the start.
    """
    warmup_steps = count_warmup_steps(options, steps_per_epoch)
    # The first step has the full rate, in however short a phase.
    milestones = [max(round(epoch * steps_per_epoch), 1) for epoch in options.milestones]

    def for_all(step: int) -> float:
        return schedule(
            step, options=options, total_steps=total_steps, warmup_steps=warmup_steps, milestones=milestones
        )

    def for_released(step: int) -> float:
        return for_all(step) * _warming(step - release, options, warmup_steps) if step >= release else 0.0

    factors: list[Callable[[int], float]] = []
    factors += [for_released if group.get(RELEASED) else for_all for group in optimizer.param_groups]
    return StepSchedule(optimizer, factors)
