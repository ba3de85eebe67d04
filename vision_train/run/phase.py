"""One training phase: a recipe, its data and its task under a Lightning Trainer of its own."""

from __future__ import annotations

import importlib
import math
import resource
import signal
import sys
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from rich.console import Console

from vision_train import data as data_room
from vision_train.artefacts import Artefact
from vision_train.checkpoints import LoadReport, load_weights
from vision_train.contract import Task, as_module
from vision_train.data.dataset import unreadable_image
from vision_train.data.images import ImageDataModule
from vision_train.ema import AverageWeights
from vision_train.errors import UserError
from vision_train.metrics_log import MetricsLog
from vision_train.processes import gather_objects
from vision_train.recipe import Recipe, write_recipe
from vision_train.run.checkpointing import EpochCheckpoints, RandomState
from vision_train.run.meter import Meter
from vision_train.run.progress import ProgressDisplay
from vision_train.tasks import TASKS

HARDWARE = ("accelerator", "devices", "num_nodes", "strategy", "precision")
"""Trainer keys that one set of processes shares; every phase takes them from the recipe that was asked for."""


@dataclass
class Prepared:
    """A recipe with its data scanned, its network built and its weights loaded: nothing is written yet."""

    recipe: Recipe
    data: ImageDataModule
    task: Task
    load_report: LoadReport | None


@dataclass(frozen=True)
class PhaseResult:
    """What a finished phase leaves.

    Attributes:
        checkpoint: The best epoch's file.
        figures: Flat figures for ``summary.json``.
        artefacts: For the report.
        skipped: Images that could not be read, with the reason; empty unless the recipe asked for skipping.
    """

    checkpoint: Path
    figures: dict[str, float | int]
    artefacts: list[Artefact] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def prepare(recipe: Recipe, classes: list[str] | None = None) -> Prepared:
    """Build everything that can fail on the user's input.

    Args:
        recipe: The checked recipe.
        classes: A label map to keep, for runs that exist already.

    Raises:
        UserError: Data, model, checkpoint or devices are not as the recipe says.
    """
    seed_everything(recipe.seed, verbose=False)
    data = data_room.build(recipe, classes)
    task = build_task(recipe, data.classes)
    report = None
    if recipe.model.checkpoint:
        report = load_weights(
            task.network,
            recipe.model.checkpoint,
            adapt=task.adapt_published,
            heads=task.heads,
            min_matched_share=recipe.model.min_matched_share,
        )
    if recipe.model.compile:
        task.network.compile()  # in place: parameter names stay as they are
    return Prepared(recipe, data, task, report)


def build_task(recipe: Recipe, classes: list[str]) -> Task:
    """Build the recipe's task around a fresh network.

    Raises:
        UserError: The model does not exist or refuses its arguments.
    """
    return importlib.import_module(TASKS[recipe.task] + ".task").build(recipe, classes)


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


def check_devices(prepared: Prepared) -> None:
    """Refuse devices that are not there, or that the data cannot keep busy.

    Raises:
        UserError: Lightning refuses the devices, or there are more processes than training images.
    """
    prepared.data.check_processes(build_trainer(prepared.recipe, []).world_size)


def plan_steps(prepared: Prepared, trainer: Trainer) -> tuple[int, int]:
    """Optimiser steps of an epoch and of the whole phase.

    Raises:
        UserError: The recipe's limits leave an epoch without a step or without validation.
    """
    batches = prepared.data.batches_per_epoch(trainer.world_size)
    limit = trainer.limit_train_batches
    if limit is not None:  # 1 is one batch, 1.0 all of them
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if batches == 0:
        raise UserError(f"trainer.limit_train_batches={limit}: leaves no training batch; take more of them")
    interval = prepared.recipe.trainer.get("val_check_interval")
    if isinstance(interval, int) and trainer.check_val_every_n_epoch and interval > batches:
        raise UserError(f"trainer.val_check_interval={interval}: an epoch has only {batches} batches")
    steps_per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    total = steps_per_epoch * (trainer.max_epochs or 1)
    return steps_per_epoch, min(total, trainer.max_steps) if trainer.max_steps > 0 else total


def fit_phase(prepared: Prepared, folder: Path, name: str, log: MetricsLog | None, console: Console) -> PhaseResult:
    """Train to the end, going on from the phase's last checkpoint if there is one, then test the best epoch.

    Args:
        prepared: Recipe, data and task.
        folder: The phase's own folder.
        name: The phase's name in the metrics log.
        log: The metrics log; None on every process but the first.
        console: Where progress goes.

    Raises:
        UserError: Something in the recipe or the data stops training.
        KeyboardInterrupt: The user stopped it; the last epoch's checkpoint stands.
    """
    recipe, data, task = prepared.recipe, prepared.data, prepared.task
    checkpoints = folder / "checkpoints"
    if log:
        checkpoints.mkdir(parents=True, exist_ok=True)
        write_recipe(folder / "recipe.yaml", recipe)
    meter = Meter(name, log, recipe.run.on_nan)
    keeper = EpochCheckpoints(checkpoints, recipe)
    bad_images = BadImages(data)
    average = [AverageWeights(recipe.optim.ema.decay)] if recipe.optim.ema else []
    display = ProgressDisplay(meter, recipe, console)
    trainer = build_trainer(recipe, [RandomState(recipe.seed), *average, bad_images, meter, display, keeper], folder)
    task.steps_per_epoch, task.total_steps = plan_steps(prepared, trainer)

    last = checkpoints / "last.ckpt"
    _run(trainer, "fit", as_module(task), datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    best = checkpoints / "best.ckpt"
    if not best.exists():
        raise UserError("training ended before its first validation; raise trainer.max_steps or max_time", shared=True)
    load_weights(task.network, best, min_matched_share=1.0)
    _run(trainer, "test", as_module(task), datamodule=data, verbose=False)
    figures = _figures(trainer, meter, keeper, task)
    return PhaseResult(best, figures, task.artefacts(), bad_images.skipped)


def _run(trainer: Trainer, verb: str, *args: Any, **kwargs: Any) -> None:
    """Call a verb of the Trainer so that Ctrl-C stays Ctrl-C: Lightning exits with 1 and leaves the signal ignored.

    Raises:
        UserError: Lightning finds that the recipe's ``trainer`` keys do not suit the data.
        KeyboardInterrupt: The user stopped it.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        getattr(trainer, verb)(*args, **kwargs)
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


def _figures(trainer: Trainer, meter: Meter, keeper: EpochCheckpoints, task: Task) -> dict[str, float | int]:
    tested = {key: value.item() for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
    return {
        **tested,
        **keeper.best_metrics,
        "train/best_epoch": keeper.best_epoch or 0,
        "train/epochs": trainer.current_epoch,
        "train/steps": trainer.global_step,
        "train/images": meter.total_images,
        "train/images_per_second": meter.images_per_second,
        "train/data_wait": meter.total_wait / max(meter.total_seconds, 1e-9),
        "train/seconds": meter.wall_seconds,
        "train/peak_memory_bytes": peak_memory(),
        "model/parameters": sum(parameter.numel() for parameter in task.network.parameters()),
    }


def peak_memory() -> int:
    """Most memory this process has used so far, in bytes: the GPU's where one is used, else the process's own."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, Linux in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class BadImages(Callback):
    """Collects the unreadable images of all processes, and under the policy ``error`` stops all of them together.

    One process alone raises at once; several carry on with other images until they next meet here.
    """

    def __init__(self, data: ImageDataModule) -> None:
        self.data = data
        self.skipped: list[str] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look as often as the metrics are written: between processes, looking costs time."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it in a connector
        if trainer.world_size > 1 and ((batch_idx + 1) % every == 0 or trainer.is_last_batch):
            self._look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look after validation."""
        self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look after training."""
        self._look(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look after testing."""
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(not self.data.skipped, all=True):
            return
        self.skipped = sorted({*self.skipped, *chain.from_iterable(gather_objects(self.data.skipped))})
        if self.data.data.on_bad_image == "error":
            raise unreadable_image(self.skipped[0], shared=True)
