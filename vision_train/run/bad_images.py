"""Unreadable images, over all processes."""

from __future__ import annotations

from itertools import chain
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vision_train.data.dataset import unreadable_image
from vision_train.data.images import ImageDataModule
from vision_train.processes import gather_objects


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
