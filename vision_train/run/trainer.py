"""Lightning's Trainer as we use it: built from a recipe, checked against the data, its errors and Ctrl-C translated."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch._dynamo.exc import TorchDynamoException

from vision_train.data.module import SampleDataModule
from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.tasks.base import Task

HARDWARE = ("accelerator", "devices", "num_nodes", "strategy", "precision")
"""Trainer keys that one set of processes shares; every phase takes them from the recipe that was asked for."""


def build_trainer(recipe: Recipe, callbacks: list[Callback], folder: Path | None = None, **limits: Any) -> Trainer:
    """A Trainer with the recipe's ``trainer`` keys and nothing of Lightning's that we do ourselves.

    Raises:
        UserError: Lightning refuses the devices, the strategy or another key.
    """
    options = {"num_sanity_val_steps": 0, **recipe.trainer, **limits}
    try:
        return Trainer(
            **options,
            callbacks=callbacks,
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        asked = ", ".join(f"trainer.{key}={recipe.trainer[key]}" for key in HARDWARE if key in recipe.trainer)
        raise UserError(f"{asked or 'trainer'}: {error}") from error


def check_devices(recipe: Recipe, data: SampleDataModule, task: Task) -> None:
    """Refuse devices that are not there, or that cannot do what the recipe asks, or that the data cannot keep busy.

    Raises:
        UserError: Lightning refuses the devices, float16 is asked of a CPU, there are more processes than samples, or
            their batches are too small for the task.
    """
    trainer = build_trainer(recipe, [])
    precision = str(recipe.trainer.get("precision"))
    if precision in ("16", "16-mixed", "16-true") and isinstance(trainer.accelerator, CPUAccelerator):
        # Lightning would quietly train in bfloat16 or fail in the middle.
        raise UserError(f"trainer.precision={precision}: needs a GPU; on a CPU use bf16-mixed or 32-true")
    task.check_batch(data.smallest_batch(trainer.world_size))


def plan_steps(recipe: Recipe, data: SampleDataModule, trainer: Trainer) -> tuple[int, int]:
    """Optimiser steps of an epoch and of the whole phase.

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
    steps_per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    total = steps_per_epoch * (trainer.max_epochs or 1)
    return steps_per_epoch, min(total, trainer.max_steps) if trainer.max_steps > 0 else total


def warm_up_note(recipe: Recipe, data: SampleDataModule) -> str | None:
    """Say so if training ends before the learning rate has reached its peak."""
    if steps := recipe.optim.warmup_steps:
        _, total = plan_steps(recipe, data, build_trainer(recipe, []))
        ends = f"{steps:,} steps and training {total:,}: it ends before the full learning rate; see optim.warmup_steps"
        return ends if steps >= total else None
    epochs, warm_up = recipe.trainer["max_epochs"], recipe.optim.warmup_epochs
    if warm_up < epochs:
        return None
    return f"{warm_up:g} epochs and training {epochs}: it ends before the full learning rate; see optim.warmup_epochs"


def call_trainer(trainer: Trainer, verb: str, *args: Any, **kwargs: Any) -> None:
    """Call a verb of the Trainer so that Ctrl-C stays Ctrl-C: Lightning exits with 1 and leaves the signal ignored.

    Raises:
        UserError: Lightning finds that the recipe's ``trainer`` keys do not suit the data.
        KeyboardInterrupt: The user stopped it.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        getattr(trainer, verb)(*args, **kwargs)
    except TorchDynamoException as error:
        reason = str(error).splitlines()[0]
        remedy = "On a CPU it needs a C++ compiler and the package setuptools; or set model.compile=false"
        raise UserError(f"model.compile=true: torch.compile fails here: {reason}. {remedy}", shared=True) from error
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}", shared=True) from error
    except SystemExit as error:
        if not trainer.interrupted:
            raise
        # Lightning has killed the processes it started; its observer, finding them dead, would kill this one too.
        killed = getattr(trainer.strategy.launcher, "procs", [])
        while killed:
            killed.pop().wait()
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error
