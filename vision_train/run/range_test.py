"""`optim.lr=auto`: the range test of "Cyclical Learning Rates for Training Neural Networks" (Smith, 2017, section 3.3).

Training takes steps whose rate grows from step to step. The largest that training bears is about that at which the loss
is smallest; a third of it serves, by the paper's rule of thumb.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vision_train.artefacts import Curve
from vision_train.errors import UserError
from vision_train.progress import Work, doing
from vision_train.recipe import Recipe
from vision_train.run.log import logging_to
from vision_train.run.phase import acting_on_weights, prepare, scan
from vision_train.run.steps import count_steps
from vision_train.run.trainer import build_trainer
from vision_train.run.trial import try_steps

STEPS = 100
LOWEST, HIGHEST = 1e-6, 10.0
SMOOTHING = 0.9
"""Weight of the past in the moving average of the losses."""
DIVERGED = 2.0
"""Times the smallest smoothed loss above which nothing more is to be learnt from larger steps."""
LEAST_FALL = 0.01
"""Share of the smoothed loss by which it has to fall for the test to say anything."""
FIRST = round(1 / (1 - SMOOTHING))
"""Steps at first of which a moving average says no more than single losses do."""


@dataclass(frozen=True)
class RangeTest:
    """What a test found.

    Attributes:
        rates: Learning rates, one a step.
        losses: The loss of each step.
        smoothed: Their moving averages, without the bias towards 0 of the first ones.
        chosen: The rate that serves.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    chosen: float

    def curve(self) -> Curve:
        """How far the smoothed loss fell and rose, as far as it rose no more than it had fallen."""
        start, least = self.smoothed[FIRST], min(self.smoothed[FIRST:])
        last = max(place for place, loss in enumerate(self.smoothed) if loss - start <= start - least)
        shown = slice(FIRST, max(last, FIRST + 1) + 1)
        changes = [loss - start for loss in self.smoothed[shown]]
        rates = self.rates[shown]
        nearest = min(range(len(rates)), key=lambda place: abs(math.log(rates[place] / self.chosen)))
        return Curve(
            "range_test",
            "Range test of the learning rate",
            "learning rate, as a power of 10",
            f"change of the training loss, from {start:.4g}",
            [math.log10(rate) for rate in rates],
            {"moving average": changes},
            note=f"optim.lr=auto took {self.chosen:.2g}, a third of the rate at which the loss is smallest.",
            marks={f"taken: {self.chosen:.2g}": [math.log10(self.chosen), changes[nearest]]},
        )


def find_rate(recipe: Recipe) -> tuple[Recipe, RangeTest]:
    """Find a learning rate by a range test from the weights that training starts from.

    Everything that a recipe trains is trained, also what `model.freeze_first` freezes at first. Rates of groups keep
    their proportions, and so do `min_lr` and `warmup_lr`.

    Returns:
        The recipe with the rate, and the test.

    Raises:
        UserError: The loss did not fall at any rate, or training fails.
    """
    once = replace(
        recipe,
        model=replace(recipe.model, freeze_first=None),
        optim=replace(recipe.optim, schedule="constant", milestones=[], warmup_epochs=0.0, warmup_steps=0),
    )
    with logging_to(None), doing("finding a learning rate", STEPS, "steps") as work:
        prepared = prepare(scan(once))
        steps = count_steps(prepared.recipe, prepared.data, build_trainer(prepared.recipe, []))
        watch = _GrowingRate(once.optim.lr, work)
        callbacks = [*acting_on_weights(prepared, replace(steps, total=STEPS)), watch]
        epochs = math.ceil(STEPS / steps.per_epoch)
        try_steps(prepared, steps, callbacks, max_epochs=epochs, limit_val_batches=0)
    found = judged(watch.rates, watch.losses)
    scale = found.chosen / recipe.optim.lr
    optim = replace(
        recipe.optim,
        lr=found.chosen,
        min_lr=recipe.optim.min_lr * scale,
        warmup_lr=recipe.optim.warmup_lr * scale,
    )
    return replace(recipe, optim=optim), found


def judged(rates: list[float], losses: list[float]) -> RangeTest:
    """Read a rate off the losses of a test: a third of that at which the smoothed loss is smallest.

    Raises:
        UserError: The loss has hardly fallen.
    """
    smoothed = _smoothed(losses)
    least = min(range(min(FIRST, len(smoothed) - 1), len(smoothed)), key=smoothed.__getitem__)
    highest = max(smoothed[min(FIRST, least) : least + 1])
    if highest - smoothed[least] < LEAST_FALL * abs(highest):
        raise UserError(
            f"optim.lr=auto: the training loss fell from {highest:.4g} to {smoothed[least]:.4g} at most while the rate "
            f"grew from {rates[0]:.0e} to {rates[-1]:.0e}, which says nothing; set optim.lr to a number"
        )
    chosen = float(f"{rates[least] / 3:.2g}")
    return RangeTest(rates, losses, smoothed, chosen)


def _smoothed(losses: list[float]) -> list[float]:
    average, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**count))
    return smoothed


class _GrowingRate(Callback):
    """Takes each step at a higher rate than the one before, and ends where the loss has grown.

    Args:
        written: The rate that the groups of the optimiser are scaled by.
        work: Shows how far it is.
    """

    def __init__(self, written: float, work: Work) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._written, self._work = written, work
        self._batches: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._rate = LOWEST * (HIGHEST / LOWEST) ** (trainer.global_step / (STEPS - 1))
        (optimizer,) = trainer.optimizers
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._rate / self._written

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batches.append(outputs["loss"].item())
        if trainer.global_step == len(self.rates):  # a batch of a step that goes on
            return
        loss, self._batches = sum(self._batches) / len(self._batches), []
        if not math.isfinite(loss):
            trainer.should_stop = True
            return
        self.rates.append(self._rate)
        self.losses.append(loss)
        self._work.advance()
        smoothed = _smoothed(self.losses)
        diverged = smoothed[-1] > DIVERGED * min(smoothed[FIRST:], default=math.inf)
        trainer.should_stop = trainer.should_stop or diverged
