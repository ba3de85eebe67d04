"""`data.batch_size=auto`: the largest equal part of the effective batch that fits into memory."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.memory import is_oom_error

from vision_train.errors import UserError
from vision_train.progress import doing
from vision_train.recipe import Recipe
from vision_train.run.log import logging_to
from vision_train.run.memory import memory_free, memory_in_use, peak_memory
from vision_train.run.phase import averaging, prepare, scan
from vision_train.run.steps import count_steps
from vision_train.run.trainer import build_trainer
from vision_train.run.trial import learn_from_pool_at_once, try_steps

USED_SHARE = 0.9
"""Of the free memory. The rest stays free, because later steps may need more than the two that are tried."""
GROWTH = 1.5
"""Least factor from one batch that is tried to the next."""
FIRST, FARTHEST = 2, 3
"""Samples that are tried first, and the factor to the next batch from which on one between the two is tried."""
TWO_STEPS = {
    **{"max_epochs": 2, "max_steps": -1, "limit_train_batches": 1, "limit_val_batches": 0},
    "accumulate_grad_batches": 1,
}
"""The first step makes the optimiser's state, the second has its peak beside it."""


@dataclass(frozen=True)
class Tried:
    """What two steps with a batch took.

    Attributes:
        batch: Samples of a step.
        bytes: Memory at the peak, beside what the process used before; None where there was not enough.
    """

    batch: int
    bytes: int | None


def largest_batch(recipe: Recipe) -> tuple[Recipe, list[Tried]]:
    """Divide the effective batch of a recipe into the largest equal parts that fit, and accumulate them.

    Batches are tried from small to large, two steps each with the optimiser's state, so that on a CPU, where the
    system may end a process without a word, memory is never asked for that is not there: a batch is tried if the one
    before, grown in proportion, leaves a tenth of what is free. Where parts lie far apart, batches between them are
    tried as a measure.

    Args:
        recipe: Its batch times what it accumulates is the effective batch of a process, which stays.

    Returns:
        The recipe with its batch and accumulation, and what was tried.

    Raises:
        UserError: Not even the smallest part fits, or training fails for another reason.
    """
    effective = recipe.data.batch_size * recipe.trainer.get("accumulate_grad_batches", 1)
    tried: list[Tried] = []
    for batch in tried_for(parts := parts_of(effective)):
        if tried and not _may_fit(recipe, tried[-1], batch):
            break
        tried.append(_two_steps(_with_batch(recipe, batch, effective), batch))
        if tried[-1].bytes is None:
            break
    fitting = [each.batch for each in tried if each.bytes is not None]
    if not (possible := [batch for batch in fitting if batch in parts]):
        raise UserError(_nothing_fits(fitting, parts[0], effective))
    return _with_batch(recipe, possible[-1], effective), tried


def _nothing_fits(fitting: list[int], smallest: int, effective: int) -> str:
    if fitting:
        power = 2 ** (effective.bit_length() - 1)
        return (
            f"data.batch_size=auto: {fitting[-1]} samples fit into memory, but not {smallest}, which is the smallest "
            f"equal part of the {effective} of a step; give a step another number of them, as by "
            f"data.batch_size={power} before data.batch_size=auto"
        )
    return (
        f"data.batch_size=auto: not even {min(FIRST, smallest)} samples fit into memory; lower the size of images or "
        "of model.name, or set trainer.precision=bf16-mixed"
    )


def parts_of(effective: int) -> list[int]:
    """Batches that divide an effective batch without a rest, from 2 samples on, each well above the one before."""

    def growing() -> Iterator[int]:
        last = 1.0
        for batch in range(min(2, effective), effective):
            even = batch % 2 <= effective % 2  # partners in reverse order need even batches
            if even and effective % batch == 0 and batch >= GROWTH * last and effective >= GROWTH * batch:
                yield batch
                last = batch
        yield effective

    return list(growing())


def tried_for(parts: list[int]) -> list[int]:
    """Parts and batches between them, from few samples on, each less than three times the one before.

    What one takes says little of one of a hundred times as many samples. Batches between are twice the one before, so
    even, as partners in reverse order need them.
    """
    tried = [min(FIRST, parts[0])]
    for part in parts:
        while part >= FARTHEST * tried[-1]:
            tried.append(2 * tried[-1])
        if part > tried[-1]:
            tried.append(part)
    return tried


def _with_batch(recipe: Recipe, batch: int, effective: int) -> Recipe:
    trainer = {**recipe.trainer, "accumulate_grad_batches": effective // batch}
    return replace(recipe, data=replace(recipe.data, batch_size=batch), trainer=trainer)


def _may_fit(recipe: Recipe, before: Tried, batch: int) -> bool:
    assert before.bytes is not None
    trainer = _trainer(recipe)
    device = trainer.strategy.root_device
    free = memory_free(device) / (trainer.num_devices if device.type == "cpu" else 1)
    return before.bytes * batch / before.batch <= USED_SHARE * free


def _two_steps(recipe: Recipe, batch: int) -> Tried:
    before = memory_in_use(_trainer(recipe).strategy.root_device)
    try:
        with logging_to(None), doing(f"trying a batch of {batch}"):
            twice = _train_twice(recipe)
        return Tried(batch, peak_memory() - before + twice)
    except (RuntimeError, MemoryError) as error:
        if not _is_lack_of_memory(error):
            raise
        return Tried(batch, None)
    finally:
        with _interrupts_held():
            gc.collect()  # networks and their trainers hold one another


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait: raised while an object is deleted, it would be printed and forgotten.

    A mask of signals would not do: it holds for one thread, and another one may take the signal in its place.
    """
    before = signal.getsignal(signal.SIGINT)
    # Nothing is raised in other threads, and a handler that is not Python's can be neither kept nor put back.
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether a GPU, a processor or Python has not enough memory, which torch raises as several types."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or is_oom_error(error)


def _train_twice(recipe: Recipe) -> int:
    """Take two steps; returns the bytes that several processes would need beside: DDP keeps gradients once more."""
    prepared = prepare(scan(recipe))
    steps = count_steps(prepared.recipe, prepared.data, _trainer(prepared.recipe))
    learn_from_pool_at_once(prepared)
    try_steps(prepared, steps, averaging(prepared.recipe, steps), **TWO_STEPS)
    trained = [parameter for parameter in prepared.task.parameters() if parameter.requires_grad]
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    return gradients if _trainer(recipe).world_size > 1 else 0


def _trainer(recipe: Recipe) -> Trainer:
    with logging_to(None):  # each of Lightning's would say which devices there are
        return build_trainer(recipe, [])
