"""Accumulated gradients where an epoch does not fill the last window of batches."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer


class WholeWindows(Callback):
    """Lets a step count for the batches it holds, also where the epoch ends before ``accumulate_grad_batches`` of them.

    Lightning divides every loss by ``accumulate_grad_batches``, so that a window of fewer batches would move the
    weights by only a part of its mean gradient. Clipping sees the corrected gradient.
    """

    def __init__(self) -> None:
        self._held = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the batches of the window; every epoch begins a new one."""
        self._held = batch_idx % trainer.accumulate_grad_batches + 1

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Divide by the batches that there are; gradients of mixed precision have been scaled back by now."""
        if self._held == trainer.accumulate_grad_batches:
            return
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, trainer.accumulate_grad_batches / self._held)
