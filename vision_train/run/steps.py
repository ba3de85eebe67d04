"""How long a training is: its steps, what each of them holds, and what the user should know of that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pytorch_lightning import Callback, LightningModule, Trainer

from vision_train.data.module import POOL_SPLIT, SampleDataModule
from vision_train.errors import UserError
from vision_train.optim import count_warmup_steps, learning_rate_factor
from vision_train.recipe import Recipe
from vision_train.tasks.base import Task
from vision_train.wording import count_of

FEW_STEPS = 300
"""Optimiser steps below which a training is called short: a new head alone takes some hundreds."""
OFTEN = 2
"""Times that an unlabelled sample comes in a step, from which on there are too few of them for it."""
FAR_BELOW = 0.25
"""Factor of the learning rate below which it is far from what was typed."""


@dataclass(frozen=True)
class TrainingSteps:
    """The steps of a phase.

    Attributes:
        batches: Batches that each process trains on in an epoch.
        held: Batches of a full step: as many as are accumulated, or all of a shorter epoch.
        last_held: Batches of the last step of an epoch, which may find fewer.
        per_epoch: Optimiser steps of an epoch.
        epochs: Epochs.
        last_batches: Batches of the last epoch, which may end early.
        total: Optimiser steps of the phase.
        effective_batch: Samples of a full step over all processes, those of the first stream.
    """

    batches: int
    held: int
    last_held: int
    per_epoch: int
    epochs: int
    last_batches: int
    total: int
    effective_batch: int


def count_steps(recipe: Recipe, data: SampleDataModule, trainer: Trainer) -> TrainingSteps:
    """Count the steps of a phase.

    Raises:
        UserError: The recipe's limits leave an epoch without a step or without validation.
    """
    batches = data.batches_per_epoch(trainer.world_size)
    limit = trainer.limit_train_batches
    if limit is not None:  # 1 is one batch, 1.0 all of them
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if batches == 0:
        raise UserError(f"trainer.limit_train_batches={limit}: leaves no training batch; take more of them")
    interval = recipe.trainer.get("val_check_interval")
    if isinstance(interval, int) and trainer.check_val_every_n_epoch and interval > batches:
        raise UserError(f"trainer.val_check_interval={interval}: an epoch has only {batches} batches")
    accumulated = trainer.accumulate_grad_batches
    held, per_epoch = min(accumulated, batches), math.ceil(batches / accumulated)
    most_epochs, most_steps = limits_of(recipe)
    total = int(min(per_epoch * (most_epochs or math.inf), most_steps or math.inf))
    epochs = math.ceil(total / per_epoch)
    return TrainingSteps(
        batches=batches,
        held=held,
        last_held=batches - (per_epoch - 1) * accumulated,
        per_epoch=per_epoch,
        epochs=epochs,
        last_batches=min(batches, (total - (epochs - 1) * per_epoch) * accumulated),
        total=total,
        effective_batch=held * next(iter(data.step_sizes(trainer.world_size).values())),
    )


def going_on(steps: TrainingSteps, recipe: Recipe, epochs: int, taken: int) -> TrainingSteps:
    """The steps of a phase that goes on after some of its epochs, the last of which a limit may have cut short.

    Args:
        steps: Counted as if no epoch had been cut short.
        recipe: Says when training ends.
        epochs: Epochs behind it.
        taken: Optimiser steps behind it.
    """
    missed = epochs * steps.per_epoch - taken
    if missed <= 0:
        return steps
    most_epochs, most_steps = limits_of(recipe)
    total = int(min(most_steps or math.inf, (most_epochs or math.inf) * steps.per_epoch - missed))
    left = math.ceil(max(total - taken, 0) / steps.per_epoch)
    return replace(steps, total=max(total, taken), epochs=epochs + left)


def limits_of(recipe: Recipe) -> tuple[int | None, int | None]:
    """Epochs and steps at which training ends, whichever comes first; None for no such limit."""
    epochs, steps = (recipe.trainer.get(key) for key in ("max_epochs", "max_steps"))
    return (None if epochs == -1 else epochs), (None if steps == -1 else steps)


def tell(task: Task, data: SampleDataModule, steps: TrainingSteps) -> None:
    """Let a task know how long it is trained, and on what."""
    task.steps_per_epoch, task.total_steps, task.effective_batch = steps.per_epoch, steps.total, steps.effective_batch
    task.pool_copies = data.pool_copies, data.counts.get(POOL_SPLIT, 0)
    task.training_samples = data.counts.get("train", 0)
    task.class_counts = [counts.get("train", 0) for counts in data.class_counts.values()]


def set_length(trainer: Trainer, steps: TrainingSteps) -> None:
    """Let a Trainer end after so many epochs, and validate at least once."""
    trainer.fit_loop.max_epochs = steps.epochs
    every = trainer.check_val_every_n_epoch
    trainer.check_val_every_n_epoch = every and min(every, steps.epochs)


class EndAtStep(Callback):
    """Ends training at an optimiser step, and validates there.

    Lightning's own ``max_steps`` ends without validation, and treats a resumed run as one that was cut within an epoch.

    Args:
        step: Optimiser steps of the phase.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Stop once the last step is taken."""
        if trainer.global_step >= self.step:
            trainer.should_stop = True
            trainer.check_val_every_n_epoch = trainer.check_val_every_n_epoch and 1


def steps_in_words(steps: TrainingSteps) -> str:
    """How many steps there are."""
    return f"{steps.per_epoch:,} an epoch, {steps.total:,} in all"


def batch_in_words(data: SampleDataModule, trainer: Trainer, steps: TrainingSteps) -> str:
    """How many samples a step has, and what they are made of."""
    processes, asked = trainer.world_size, trainer.accumulate_grad_batches
    drawn = {name: size // processes for name, size in data.step_sizes(processes).items()}
    samples = sum(drawn.values()) * processes
    factors = [f"{count} {what}" for count, what in ((processes, "processes"), (steps.held, "batches")) if count > 1]
    streams = " + ".join(f"{size} {name}" for name, size in drawn.items())
    if len(drawn) > 1:
        factors.append(f"({streams})" if factors else streams)
    elif factors:
        factors.append(count_of(sum(drawn.values()), data.noun))
    text = f"{count_of(samples * steps.held, data.noun)} a step" + (f": {' x '.join(factors)}" if factors else "")
    if steps.held < asked:
        text += f"; an epoch has no more batches to accumulate (trainer.accumulate_grad_batches={asked})"
    elif steps.last_held < steps.held:
        text += f"; {samples * steps.last_held:,} in the last step of an epoch, whose batches are {steps.last_held}"
    return text


def concerns(
    recipe: Recipe, data: SampleDataModule, trainer: Trainer, steps: TrainingSteps, *, found_rate: bool = False
) -> Iterator[str]:
    """What will hardly be meant so, each with the key that helps.

    Args:
        recipe: Of the phase.
        data: Its samples.
        trainer: As the recipe asks for it.
        steps: Of the phase.
        found_rate: Whether the learning rate was found by a test, so that nobody typed it.
    """
    yield from _of_length(recipe, steps)
    yield from _of_schedule(recipe, steps)
    yield from _of_samples(recipe, data, trainer, steps)
    if not found_rate:
        yield from _of_rate(recipe, steps)


def _of_length(recipe: Recipe, steps: TrainingSteps) -> Iterator[str]:
    most_epochs, most_steps = limits_of(recipe)
    if most_steps and steps.total < most_steps:
        yield (
            f"trainer.max_epochs={most_epochs} ends training after {steps.total:,} steps, before trainer.max_steps="
            f"{most_steps}; set trainer.max_epochs=null to train for that many"
        )
    if steps.total < FEW_STEPS:
        by_epochs = f"trainer.max_epochs ({math.ceil(FEW_STEPS / steps.per_epoch):,} make {FEW_STEPS} steps)"
        longer = "trainer.max_steps" if most_steps == steps.total else by_epochs
        lower = "data.batch_size"
        if steps.held > 1:
            lower += " or trainer.accumulate_grad_batches"
        yield (
            f"{steps.total:,} optimiser steps in all are few: even a new head alone takes some hundreds. Raise "
            f"{longer}, or lower {lower}"
        )
    first = recipe.model.freeze_first
    if first is not None and first.epochs >= steps.total / steps.per_epoch:
        yield (
            f"model.freeze_first.epochs={first.epochs:g}, but training has {steps.epochs} epoch(s), so what it freezes "
            "is never trained; lower it or raise trainer.max_epochs"
        )
    asked = recipe.trainer.get("check_val_every_n_epoch", 1)
    if asked and asked > steps.epochs:
        yield (
            f"trainer.check_val_every_n_epoch={asked}, but training has {steps.epochs} epoch(s); it validates after "
            "the last one"
        )
    elif asked and not most_steps and (rest := steps.epochs % asked):
        yield (
            f"the last {rest} epoch(s) are not validated, so none of them can be chosen: trainer.max_epochs="
            f"{most_epochs} is no multiple of trainer.check_val_every_n_epoch={asked}"
        )


def _of_schedule(recipe: Recipe, steps: TrainingSteps) -> Iterator[str]:
    if recipe.run.early_stopping and recipe.optim.schedule in ("cosine", "warmup_stable_decay"):
        yield (
            f"optim.schedule={recipe.optim.schedule} falls over all {steps.total:,} steps, and run.early_stopping may "
            "end training before it has; set optim.schedule=constant, or leave training its length"
        )
    late = [epoch for epoch in recipe.optim.milestones if epoch >= steps.total / steps.per_epoch]
    if late:
        yield (
            f"optim.milestones={recipe.optim.milestones}: training has {steps.epochs} epoch(s), so the learning rate "
            f"never drops at {', '.join(f'{epoch:g}' for epoch in late)}; lower them or raise trainer.max_epochs"
        )
    if (warm_up := count_warmup_steps(recipe.optim, steps.per_epoch)) and warm_up >= steps.total:
        key = "optim.warmup_steps" if recipe.optim.warmup_steps else "optim.warmup_epochs"
        yield (
            f"the warm-up takes {warm_up:,} steps and training {steps.total:,}: it ends before the full learning rate; "
            f"lower {key} to a tenth of the training or less"
        )


def _of_samples(recipe: Recipe, data: SampleDataModule, trainer: Trainer, steps: TrainingSteps) -> Iterator[str]:
    never = data.never_drawn(trainer.world_size, steps.epochs, steps.batches, steps.last_batches)
    if never:
        count = data.counts[next(iter(data.streams.values())).split]
        longer = "trainer.max_steps" if limits_of(recipe)[1] == steps.total else "trainer.max_epochs"
        yield (
            f"{never:,} of the {count:,} training {data.noun} are never seen; raise {longer}, or lower data.batch_size"
        )
    for name, stream in [*data.streams.items()][1:]:
        count = data.counts[stream.split]
        if stream.batch_size >= OFTEN * count:
            yield (
                f"each {name} one of the {data.noun} comes {stream.batch_size // count:,} times or more in a step: it "
                f"takes {stream.batch_size:,}, and there are {count:,}; lower semi.ratio or data.batch_size"
            )


def _of_rate(recipe: Recipe, steps: TrainingSteps) -> Iterator[str]:
    factor = learning_rate_factor(recipe.optim, steps.effective_batch)
    if factor < FAR_BELOW:
        lr = recipe.optim.lr
        yield (
            f"optim.lr={lr:g} becomes {lr * factor:.3g}, since a step of {steps.effective_batch:,} samples is far "
            f"below optim.lr_reference_batch={recipe.optim.lr_reference_batch}. Raise data.batch_size or "
            "trainer.accumulate_grad_batches, or set optim.lr_reference_batch=null to take the rate as written"
        )
