"""`optim.lr=auto`: the range test of "Cyclical Learning Rates for Training Neural Networks" (Smith, 2017, section 3.3).

Training takes steps whose rate grows from step to step. The largest that training bears is about that at which the loss
is smallest; a third of it serves, by the paper's rule of thumb.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vision_train.artefacts import Curve
from vision_train.errors import UserError
from vision_train.optim import learning_rate_factor
from vision_train.progress import Work, doing
from vision_train.recipe import Recipe
from vision_train.recipe.optim_section import Optim
from vision_train.run.inference import ONE_PROCESS
from vision_train.run.log import logging_to
from vision_train.run.phase import acting_on_weights, prepare, scan
from vision_train.run.steps import count_steps
from vision_train.run.trainer import build_trainer
from vision_train.run.trial import try_steps

NAME = "range_test"
"""The artefact that a run keeps of its test."""
STEPS = 100
LOWEST, HIGHEST = 1e-6, 10.0
SMOOTHING = 0.9
"""Weight of the past in the moving average of the losses."""
DIVERGED = 2.0
"""Times the smallest smoothed loss above which nothing more is to be learnt from larger steps."""
LEAST_FALL = 0.01
"""Share of the smoothed loss by which it has to fall for the test to say anything; and by more than the losses of the
first steps scatter, at whose rates nothing is learnt: moving averages of these differ by about as much."""
FIRST = round(1 / (1 - SMOOTHING))
"""Steps at first of which a moving average says no more than single losses do."""


@dataclass(frozen=True)
class RangeTest:
    """What a test found.

    Attributes:
        rates: Learning rates, one a step.
        losses: The loss of each step.
        smoothed: Their moving averages, without the bias towards 0 of the first ones.
        chosen: The rate that serves, as ``optim.lr``.
        batch: In words, how many samples a step of the test had, and what that means for steps of the run.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    chosen: float
    batch: str

    def curve(self) -> Curve:
        """How far the smoothed loss fell and rose, as far as it rose no more than it had fallen."""
        start, least = self.smoothed[FIRST], min(self.smoothed[FIRST:])
        last = max(place for place, loss in enumerate(self.smoothed) if loss - start <= start - least)
        shown = slice(FIRST, max(last, FIRST + 1) + 1)
        changes = [loss - start for loss in self.smoothed[shown]]
        rates = self.rates[shown]
        nearest = min(range(len(rates)), key=lambda place: abs(math.log(rates[place] / self.chosen)))
        return Curve(
            NAME,
            "Range test of the learning rate",
            "learning rate, as a power of 10",
            f"change of the training loss, from {start:.4g}",
            [math.log10(rate) for rate in rates],
            {"moving average": changes},
            note=f"optim.lr=auto took {self.chosen:.2g}, a third of the rate at which the loss is smallest. In the "
            f"test {self.batch}.",
            marks={f"taken: {self.chosen:.2g}": [math.log10(self.chosen), changes[nearest]]},
        )


def find_rate(recipe: Recipe) -> tuple[Recipe, RangeTest]:
    """Find a learning rate by a range test from the weights that training starts from.

    Everything that a recipe trains is trained, also what `model.freeze_first` freezes at first. Rates of groups keep
    their proportions, and so do `min_lr` and `warmup_lr`.

    The test trains in one process, with the batch of one. `optim.lr_reference_batch` scales rates of the test by that
    batch, and those of the run by the batch of all its processes; without it both take the rate as it is.

    Returns:
        The recipe with the rate, and the test.

    Raises:
        UserError: The loss did not fall at any rate, or training fails.
    """
    once = replace(
        recipe,
        model=replace(recipe.model, freeze_first=None),
        optim=replace(recipe.optim, schedule="constant", milestones=[], warmup_epochs=0.0, warmup_steps=0),
        trainer={**recipe.trainer, **ONE_PROCESS},
    )
    with logging_to(None), doing("finding a learning rate", STEPS, "steps") as work:
        prepared = prepare(scan(once))
        of_test, of_run = (count_steps(each, prepared.data, build_trainer(each, [])) for each in (once, recipe))
        watch = _GrowingRate(once.optim.lr, work)
        callbacks = [*acting_on_weights(prepared, replace(of_test, total=STEPS)), watch]
        epochs = math.ceil(STEPS / of_test.per_epoch)
        try_steps(prepared, of_test, callbacks, max_epochs=epochs, limit_val_batches=0)
    rate = judged(watch.rates, watch.losses)
    optim = _at_rate(recipe.optim, rate)
    batch = _batches_in_words(optim, of_test.effective_batch, of_run.effective_batch)
    return replace(recipe, optim=optim), RangeTest(watch.rates, watch.losses, _smoothed(watch.losses), rate, batch)


def _at_rate(optim: Optim, rate: float) -> Optim:
    scale = rate / optim.lr
    return replace(optim, lr=rate, min_lr=optim.min_lr * scale, warmup_lr=optim.warmup_lr * scale)


def _batches_in_words(optim: Optim, test: int, run: int) -> str:
    """What batch a rate was found with, and what becomes of it where a step of the run has another.

    Args:
        optim: With the rate.
        test: Samples of a step of the test.
        run: Samples of a step of the run, over all its processes.
    """
    said = f"a step had {test:,} samples"
    if optim.lr_reference_batch is not None:
        in_test, in_run = (f"{optim.lr * learning_rate_factor(optim, size):.3g}" for size in (test, run))
        applied = f"{said} and the rate applied to them is {in_test}"
        if run != test:
            applied += f"; one of the run has {run:,}, at a rate of {in_run}"
        return f"{applied} (optim.lr_reference_batch={optim.lr_reference_batch})"
    if run == test:
        return said
    return f"{said} and one of the run has {run:,}, at the same rate (optim.lr_reference_batch=null)"


def judged(rates: list[float], losses: list[float]) -> float:
    """Read a rate off the losses of a test: a third of that at which the smoothed loss is smallest.

    Raises:
        UserError: Too few losses are finite for an average, or the loss has hardly fallen.
    """
    if len(losses) <= FIRST:
        raise UserError(
            f"optim.lr=auto: the training loss is no finite number in step {len(losses) + 1} of the range test, at a "
            f"rate of {rate_at(len(losses)):.0e}, which is rarely the rate's fault; look at the labels and at "
            "trainer.precision, or set optim.lr to a number"
        )
    smoothed = _smoothed(losses)
    least = min(range(FIRST, len(smoothed)), key=smoothed.__getitem__)
    highest = max(smoothed[FIRST : least + 1])
    if highest - smoothed[least] < max(LEAST_FALL * abs(highest), _scatter(losses[: FIRST + 1])):
        raise UserError(
            f"optim.lr=auto: the training loss fell from {highest:.4g} to {smoothed[least]:.4g} at most while the rate "
            f"grew from {rates[0]:.0e} to {rates[-1]:.0e}, which is little or noise; set optim.lr to a number"
        )
    return float(f"{rates[least] / 3:.2g}")


def _scatter(losses: list[float]) -> float:
    """Deviation of losses from step to step, by the median of their differences, which tells nothing of a trend."""
    return median(abs(after - before) for before, after in pairwise(losses)) / (0.6745 * math.sqrt(2))


def rate_at(step: int) -> float:
    """The rate of a step of the test, counted from 0."""
    return LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))


def _smoothed(losses: list[float]) -> list[float]:
    average, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**count))
    return smoothed


class _GrowingRate(Callback):
    """Takes each step at a higher rate than the one before, and ends where the loss has grown, or at the last step.

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
        self._rate = rate_at(trainer.global_step)
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
        # An epoch may have many steps more, at rates that grow beyond all numbers.
        trainer.should_stop = trainer.should_stop or diverged or len(self.rates) == STEPS
