"""Lightning's Trainer as we use it: built from a recipe, checked against the data, its errors and Ctrl-C translated."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch._dynamo.exc import TorchDynamoException

from vision_train.data.module import SampleDataModule
from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.recipe.trainer_keys import AUTO
from vision_train.run.log import logging_to
from vision_train.run.precision import FULL, Precision, precision_of
from vision_train.run.requeue import environment_plugins
from vision_train.tasks.base import Task
from vision_train.threads import Count, use_threads

HARDWARE = ("accelerator", "devices", "num_nodes", "strategy", "precision")
"""Trainer keys that one set of processes shares; every phase takes them from the recipe that was asked for."""


def build_trainer(recipe: Recipe, callbacks: list[Callback], folder: Path | None = None, **limits: Any) -> Trainer:
    """A Trainer with the recipe's ``trainer`` keys and nothing of Lightning's that we do ourselves.

    How long it trains is set once the data are known (:func:`vision_train.run.steps.set_length`).

    Raises:
        UserError: Lightning refuses the devices, the strategy or another key.
    """
    options = {"num_sanity_val_steps": 0, **recipe.trainer, **limits}
    if options.get("precision") == AUTO:
        options["precision"] = precision_of(build_trainer(with_precision(recipe, FULL), []).accelerator).name
    options.pop("max_steps", None)
    options.pop("callbacks", None)  # names of entry points, which a phase loads itself
    options["max_epochs"] = options.get("max_epochs") or -1  # without a limit it is that of the steps
    try:
        return Trainer(
            **options,
            callbacks=callbacks,
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            plugins=environment_plugins(),
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        asked = ", ".join(f"trainer.{key}={recipe.trainer[key]}" for key in HARDWARE if key in recipe.trainer)
        raise UserError(f"{asked or 'trainer'}: {error}") from error


def settle_precision(recipe: Recipe) -> tuple[Recipe, Precision]:
    """Put a number format in the place of ``auto``, for all phases of a run and for all who read its recipe later.

    A run that is resumed finds the format in its recipe, and so goes on with the one that it was begun with.

    Returns:
        The recipe with a format that Lightning knows, and why it is that one.

    Raises:
        UserError: As for :func:`build_trainer`.
    """
    asked = recipe.trainer.get("precision")
    if asked != AUTO:
        return recipe, Precision(str(asked or FULL), "trainer.precision" if asked else "nothing else was asked for")
    with logging_to(None):
        chosen = precision_of(build_trainer(with_precision(recipe, FULL), []).accelerator)
    return with_precision(recipe, chosen.name), chosen


def with_precision(recipe: Recipe, name: str) -> Recipe:
    """The recipe with this number format."""
    return replace(recipe, trainer={**recipe.trainer, "precision": name})


def settle_threads(recipe: Recipe, recorded: int | None = None) -> Count:
    """Settle with how many threads this process computes, one of those that train on the devices of this machine.

    Args:
        recipe: Says how many, or how many processes share the processors.
        recorded: With how many a run that goes on was begun.

    Raises:
        UserError: As for :func:`build_trainer`.
    """
    with logging_to(None):
        processes = build_trainer(recipe, []).num_devices
    return use_threads(recipe.run.threads, recorded=recorded, processes=processes)


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
