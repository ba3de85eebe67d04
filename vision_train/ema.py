"""The one moving average of weights: what is validated, saved as the result, and later serves as a teacher.

``average <- decay * average + (1 - decay) * weights`` after every optimiser step. The decay grows from 0.1
to its final value, so that early averages are not dominated by the random start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from vision_train.contract import as_task


class MovingAverage:
    """Exponential moving average of a network's parameters and buffers, under their plain names.

    Integer buffers (counters) are copied, not averaged.

    Args:
        network: Where the average starts.
        decay: Share of the old average kept at each update once warm.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def current_decay(self) -> float:
        """The decay of the next update: min(decay, (1 + n) / (10 + n)) after n updates."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present weights."""
        new = network.state_dict()
        names = [name for name, value in self.weights.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.weights[n] for n in names], [new[n] for n in names], 1 - self.current_decay())
        for name in self.weights.keys() - set(names):
            self.weights[name].copy_(new[name])
        self.updates += 1

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Let the network carry the averaged weights inside a ``with`` block, and its own again afterwards."""
        self.swap(network)
        try:
            yield
        finally:
            self.swap(network)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange the network's weights and the average in place; calling it twice changes nothing."""
        for name, value in network.state_dict().items():
            kept = value.clone()
            value.copy_(self.weights[name])
            self.weights[name].copy_(kept)


class AverageWeights(Callback):
    """Keeps a moving average during training and lets validation and test see it instead of the raw weights."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: MovingAverage | None = None
        self._restored: dict[str, Any] | None = None
        self._last_step = 0
        self._swapped = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the network as it stands on its device, or from the average of a resumed checkpoint."""
        self.average = MovingAverage(as_task(pl_module).network, self.decay)
        self._last_step = trainer.global_step
        if self._restored is not None:
            for name, value in self.average.weights.items():
                value.copy_(self._restored["weights"][name])
            self.average.updates = self._restored["updates"]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Update once per optimiser step; batches that only accumulate gradients do not count."""
        if self.average is not None and trainer.global_step != self._last_step:
            self._last_step = trainer.global_step
            self.average.update(as_task(pl_module).network)

    def _swap(self, pl_module: LightningModule, swapped: bool) -> None:
        if self.average is not None and self._swapped != swapped:
            self.average.swap(as_task(pl_module).network)
            self._swapped = swapped

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._swap(pl_module, True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go back to the raw weights."""
        self._swap(pl_module, False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Go back to the raw weights also where validation was cut short."""
        self._swap(pl_module, False)

    def state_dict(self) -> dict[str, Any]:
        """Number of updates; the averaged weights themselves stand in the checkpoint under ``averaged``."""
        return {"updates": self.average.updates if self.average else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the count of a resumed run."""
        self._restored = {**(self._restored or {}), "updates": state_dict["updates"]}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the average beside the raw weights, under plain names."""
        if self.average is not None:
            checkpoint["averaged"] = dict(self.average.weights)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average of a resumed run."""
        self._restored = {**(self._restored or {}), "weights": checkpoint["averaged"]}
