"""The one moving average of weights: a network that is validated, saved as the result, and serves as a teacher.

``average <- decay * average + (1 - decay) * weights`` after every optimiser step. With a warm-up the decay grows from
0.1 to its final value, so that early averages are not dominated by the random start.

torch's ``AveragedModel`` copies instead of averaging at its first update, waits for the device at every update and
keeps 16-bit weights in 16 bits or runs in 32; timm's ``ModelEmaV3`` averages tied weights twice in one update.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """Exponential moving average of a network, itself a network with a ``forward``.

    It holds a copy of the network, in evaluation mode and without gradients, whose floating-point parameters and
    buffers are averages. Integer buffers (counters) and buffers that checkpoints leave out are copied, not averaged.
    Weights of 16 bits are averaged in 32: at a decay of 0.999 an update is smaller than their last digit, and the
    average would never move; the copy runs on the rounded average. Tied weights stay tied and are averaged once.

    Args:
        network: Where the average starts; it is never changed.
        decay: Share of the old average kept at each update, strictly between 0 and 1.
        warmup: Reach the decay gradually, by :meth:`current_decay`.
    """

    def __init__(self, network: nn.Module, decay: float, *, warmup: bool = True) -> None:
        super().__init__()
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        if any(module._compiled_call_impl is not None for module in network.modules()):
            self.network.compile()  # a copy is not compiled
        self._first: dict[str, str] = {}
        """The first name of each tensor by all of its names: tied weights have several."""
        self._exact: dict[str, Tensor] = {}
        """By first name, averages that are kept in another type than that of the network."""
        first_names: dict[tuple[int, torch.Size], str] = {}
        for name, value in self.network.state_dict().items():
            self._first[name] = first_names.setdefault((value.data_ptr(), value.shape), name)
            if self._first[name] == name and value.dtype != (averaged := _averaging_type(value)):
                self._exact[name] = value.to(averaged)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averages themselves, not copies, under the network's own names."""
        return {name: self._exact.get(self._first[name], own) for name, own in self.network.state_dict().items()}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the averaged network."""
        return self.network(*args, **kwargs)

    def train(self, mode: bool = True) -> MovingAverage:
        """Stay in evaluation mode: an average has nothing to learn."""
        return super().train(False)

    def current_decay(self) -> float:
        """The decay of the next update: min(decay, (1 + n) / (10 + n)) after n updates of a warm-up, else the decay."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present weights."""
        new, weights = network.state_dict(), self._distinct()
        averaged = [name for name, average in weights.items() if average.is_floating_point()]
        old = [weights[name] for name in averaged]
        present = [new[name].to(weights[name].dtype) for name in averaged]
        torch._foreach_lerp_(old, present, 1 - self.current_decay())
        for name, average in weights.items():
            if not average.is_floating_point():
                average.copy_(new[name])
        own, theirs = dict(self.network.named_buffers()), dict(network.named_buffers())
        for name in own.keys() - self._first.keys():
            own[name].copy_(theirs[name])
        self._round()
        self.updates += 1

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor], updates: int) -> None:
        """Go on from the averages and the number of updates of a checkpoint."""
        for name, average in self._distinct().items():
            average.copy_(weights[name])
        self._round()
        self.updates = updates

    def share_buffers(self) -> None:
        """Take over the first process's buffers: batch statistics are of each process's own batches, and one is saved.

        Does nothing in a single process; all processes must call it.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.network.buffers():
                if buffer.is_floating_point():
                    torch.distributed.broadcast(buffer, 0)

    def _distinct(self) -> dict[str, Tensor]:
        return {name: average for name, average in self.weights.items() if self._first[name] == name}

    def _round(self) -> None:
        """Give the network the averages that are kept in another type than its own."""
        own = self.network.state_dict() if self._exact else {}
        for name, average in self._exact.items():
            own[name].copy_(average)


def network_of(pl_module: LightningModule) -> nn.Module:
    """The network that a task owns."""
    network = pl_module.network
    assert isinstance(network, nn.Module)
    return network


def _averaging_type(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32) if value.is_floating_point() else value.dtype


class AverageWeights(Callback):
    """Keeps a moving average during training and lets validation see it instead of the raw weights.

    Args:
        decay: As for :class:`MovingAverage`.
        warmup: As for :class:`MovingAverage`.
    """

    def __init__(self, decay: float, *, warmup: bool = True) -> None:
        self.decay = decay
        self.warmup = warmup
        self.average: MovingAverage | None = None
        self._restored: dict[str, Any] | None = None
        self._last_step = 0
        self._trained: nn.Module | None = None
        """The network that is trained, while the task carries the average in its place."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the network as it stands on its device, or from the average of a resumed checkpoint."""
        self.average = MovingAverage(network_of(pl_module), self.decay, warmup=self.warmup)
        if self._restored is not None:
            self.average.restore(self._restored["weights"], self._restored["updates"])
            self._restored = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count steps from here: only now has Lightning restored those of a resumed run."""
        self._last_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Update once per optimiser step; batches that only accumulate gradients do not count."""
        if self.average is not None and trainer.global_step != self._last_step:
            self._last_step = trainer.global_step
            self.average.update(network_of(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.average is not None and self._trained is None:
            self.average.share_buffers()
            self._trained, pl_module.network = network_of(pl_module), self.average.network

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show_trained(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Go back to the network that is trained also where validation was cut short."""
        self._show_trained(pl_module)

    def _show_trained(self, pl_module: LightningModule) -> None:
        if self._trained is not None:
            pl_module.network, self._trained = self._trained, None

    def state_dict(self) -> dict[str, Any]:
        """Number of updates; the averaged weights themselves stand in the checkpoint under ``averaged``."""
        return {"updates": self.average.updates if self.average else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = {**(self._restored or {}), "updates": state_dict["updates"]}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the average beside the raw weights, under plain names."""
        if self.average is not None:
            checkpoint["averaged"] = dict(self.average.weights)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._restored = {**(self._restored or {}), "weights": checkpoint["averaged"]}
