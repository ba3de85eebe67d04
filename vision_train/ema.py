"""The one moving average of weights: what is validated, saved as the result, and later serves as a teacher.

``average <- decay * average + (1 - decay) * weights`` after every optimiser step. The decay grows from 0.1
to its final value, so that early averages are not dominated by the random start.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn


class MovingAverage:
    """Exponential moving average of a network's parameters and buffers, under their plain names.

    Integer buffers (counters) are copied, not averaged. Weights of 16 bits are averaged in 32: at a decay of 0.999 an
    update is smaller than their last digit, and the average would never move. Tied weights are averaged once.

    Args:
        network: Where the average starts.
        decay: Share of the old average kept at each update once warm.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {}
        self._distinct: list[str] = []
        """Names without the second and further ones of tied weights."""
        self._own: list[Tensor] = []
        """The network's own weights while it carries the average."""
        first_names: dict[tuple[int, torch.Size], str] = {}
        for name, value in network.state_dict().items():
            first = first_names.setdefault((value.data_ptr(), value.shape), name)
            if first == name:
                self._distinct.append(name)
                self.weights[name] = value.detach().to(_averaging_type(value), copy=True)
            else:
                self.weights[name] = self.weights[first]

    def current_decay(self) -> float:
        """The decay of the next update: min(decay, (1 + n) / (10 + n)) after n updates."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present weights."""
        new = network.state_dict()
        averaged = [name for name in self._distinct if self.weights[name].is_floating_point()]
        old = [self.weights[name] for name in averaged]
        present = [new[name].to(self.weights[name].dtype) for name in averaged]
        torch._foreach_lerp_(old, present, 1 - self.current_decay())
        for name in self._distinct:
            if not self.weights[name].is_floating_point():
                self.weights[name].copy_(new[name])
        self.updates += 1

    @torch.no_grad()
    def apply_to(self, network: nn.Module) -> None:
        """Let the network carry the averaged weights until :meth:`restore`; the average itself stays as it is."""
        state = network.state_dict()
        self._own = [state[name].clone() for name in self._distinct]
        for name in self._distinct:
            state[name].copy_(self.weights[name])

    @torch.no_grad()
    def restore(self, network: nn.Module) -> None:
        """Give the network its own weights back."""
        state = network.state_dict()
        for name, own in zip(self._distinct, self._own, strict=True):
            state[name].copy_(own)
        self._own = []


def network_of(pl_module: LightningModule) -> nn.Module:
    network = pl_module.network
    assert isinstance(network, nn.Module)
    return network


def _averaging_type(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32) if value.is_floating_point() else value.dtype


class AverageWeights(Callback):
    """Keeps a moving average during training and lets validation see it instead of the raw weights."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: MovingAverage | None = None
        self._restored: dict[str, Any] | None = None
        self._last_step = 0
        self._shown = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the network as it stands on its device, or from the average of a resumed checkpoint."""
        self.average = MovingAverage(network_of(pl_module), self.decay)
        if self._restored is not None:
            for name, value in self.average.weights.items():
                value.copy_(self._restored["weights"][name])
            self.average.updates = self._restored["updates"]
            self._restored = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count steps from here: only now has Lightning restored those of a resumed run."""
        self._last_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Update once per optimiser step; batches that only accumulate gradients do not count."""
        if self.average is not None and trainer.global_step != self._last_step:
            self._last_step = trainer.global_step
            self.average.update(network_of(pl_module))

    def _show(self, pl_module: LightningModule, average: bool) -> None:
        if self.average is not None and self._shown != average:
            (self.average.apply_to if average else self.average.restore)(network_of(pl_module))
            self._shown = average

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._show(pl_module, True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go back to the raw weights."""
        self._show(pl_module, False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Go back to the raw weights also where validation was cut short."""
        self._show(pl_module, False)

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
