"""Clipping of gradients tensor by tensor."""

from __future__ import annotations

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer


class ClipEachGradient(Callback):
    """Clips the gradient of every parameter tensor by itself.

    Args:
        max_norm: Largest norm of a single tensor's gradient.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Clip; gradients of mixed precision have been scaled back by now."""
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_(parameter, self.max_norm)
