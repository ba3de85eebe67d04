"""Measures training as it goes: loss, throughput, time spent waiting for data. Writes the metrics log."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.metrics_log import MetricsLog
from vision_train.processes import gather_objects
from vision_train.wording import first_named


def ids_in(batch: Any) -> list[str]:
    """Ids of the samples in a batch of the house's form, of all its streams."""
    if not isinstance(batch, dict):
        return []
    return list(batch["id"]) if "id" in batch else [each for part in batch.values() for each in ids_in(part)]


def samples_in(batch: Any) -> int:
    """Number of samples in a batch of the house's form, streams of several kinds added up."""
    return len(ids_in(batch))


class Meter(Callback):
    """Counts samples and seconds, logs a training line every few steps and a validation line every epoch.

    The share of time waiting for data is the time between two steps over all time, as the training loop sees it.
    Losses stay on the device and are read only when a line is due, so that a GPU is not made to wait.

    Args:
        phase: Name of the phase in the log.
        log: Where lines go; None on every process but the first.
        on_nan: ``stop`` ends the run when a loss is not finite.
    """

    def __init__(self, phase: str, log: MetricsLog | None, on_nan: str) -> None:
        self.phase, self.metrics_log, self.on_nan = phase, log, on_nan
        self.total_samples, self.total_seconds, self.total_wait = 0, 0.0, 0.0
        self.latest: dict[str, float] = {}
        self._every = 1
        self._wall_before, self._began = 0.0, time.monotonic()
        self._reset()
        self._mark = 0.0

    def _reset(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._ids: list[list[str]] = []  # of the samples of each of these steps
        self._steps, self._samples, self._wait, self._seconds = 0, 0, 0.0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it in a connector
        self._began = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._every = 1
        self._wall_before, self._began = self.wall_seconds, math.inf

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; time between epochs belongs to validation."""
        self._mark = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The time since the last step ended went into getting this batch."""
        now = time.perf_counter()
        self._wait += now - self._mark
        self._seconds += now - self._mark
        self._mark = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step; write a line when one is due."""
        # Lightning has divided it by the number of batches that share a step.
        self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)
        self._ids.append(ids_in(batch))
        self._steps += 1
        self._samples += samples_in(batch) * trainer.world_size
        now = time.perf_counter()
        self._seconds += now - self._mark
        self._mark = now
        if (batch_idx + 1) % self._every == 0 or trainer.is_last_batch or trainer.should_stop:
            self._write(trainer)
            self._mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line of steps after which training ended by a limit that this callback did not see."""
        if self._steps:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        losses = torch.stack(self._losses).tolist()
        if self.on_nan == "stop":
            self._check_finite(trainer, losses)
        loss = sum(losses) / self._steps
        self.total_samples += self._samples
        self.total_seconds += self._seconds
        self.total_wait += self._wait
        terms = {key: value.item() for key, value in trainer.callback_metrics.items() if key.startswith("train/")}
        self.latest = {
            "train/loss": loss,
            **terms,  # parts of the loss that the task logs, of the last step
            "train/samples_per_second": self._samples / max(self._seconds, 1e-9),
            "train/data_wait": self._wait / max(self._seconds, 1e-9),
            "lr": max(group["lr"] for group in trainer.optimizers[0].param_groups),
        }
        if self.metrics_log:
            self.metrics_log.append(self.phase, trainer.current_epoch, trainer.global_step, self.latest)
        self._reset()

    def _check_finite(self, trainer: Trainer, losses: Sequence[float]) -> None:
        # All processes decide together; one that stopped alone would leave the others waiting for its gradients.
        if trainer.strategy.reduce_boolean_decision(all(map(math.isfinite, losses)), all=True):
            return
        first = next((ids for loss, ids in zip(losses, self._ids, strict=True) if not math.isfinite(loss)), [])
        named = first_named([printable(each) for part in gather_objects(first) for each in part])
        raise UserError(
            f"the training loss is no longer finite (epoch {trainer.current_epoch + 1}, by step {trainer.global_step}; "
            f"first with {named}); lower optim.lr, lengthen optim.warmup_epochs, set trainer.gradient_clip_val=1.0, or "
            "leave 16-bit precision. Checkpoints of earlier epochs are kept; run.on_nan=continue trains on regardless",
            shared=True,
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the validation metrics; where training goes on within the epoch, its clock starts anew."""
        self._mark = time.perf_counter()
        if self.metrics_log and not trainer.sanity_checking:
            values = {key: value.item() for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
            self.metrics_log.append(self.phase, trainer.current_epoch, trainer.global_step, values)

    def running(self) -> dict[str, float]:
        """Samples per second and share of waiting since the last line was written, or of that line right after it."""
        if not self._steps:
            return {key.removeprefix("train/"): value for key, value in self.latest.items()}
        seconds = max(self._seconds, 1e-9)
        return {"samples_per_second": self._samples / seconds, "data_wait": self._wait / seconds}

    @property
    def samples_per_second(self) -> float:
        """Training throughput of the phase over all processes, validation not counted."""
        return self.total_samples / max(self.total_seconds, 1e-9)

    @property
    def wall_seconds(self) -> float:
        """Seconds from the first step to the last, validation and saving included, earlier processes counted in."""
        return self._wall_before + max(time.monotonic() - self._began, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The totals, so that a resumed run reports the whole."""
        return {
            "samples": self.total_samples,
            "seconds": self.total_seconds,
            "wait": self.total_wait,
            "wall": self.wall_seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.total_samples, self.total_seconds = state_dict["samples"], state_dict["seconds"]
        self.total_wait, self._wall_before = state_dict["wait"], state_dict["wall"]
