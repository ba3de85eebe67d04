"""Unreadable samples, over all processes."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vision_train.data.module import SampleDataModule
from vision_train.processes import gather_objects


class BadSamples(Callback):
    """Collects the unreadable samples of all processes, and under the policy ``error`` stops all of them together.

    One process alone raises at once; several carry on with other samples until they next meet here.
    """

    def __init__(self, data: SampleDataModule) -> None:
        self.data = data
        self.skipped: dict[str, str] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look as often as the metrics are written: between processes, looking costs time."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it in a connector
        if trainer.world_size > 1 and ((batch_idx + 1) % every == 0 or trainer.is_last_batch):
            self._look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(not self.data.skipped, all=True):
            return
        found = {name: reason for skipped in gather_objects(self.data.skipped) for name, reason in skipped.items()}
        self.skipped = dict(sorted({**self.skipped, **found}.items()))
        if self.data.section.on_bad == "error":
            raise self.data.refusal(self.skipped)
