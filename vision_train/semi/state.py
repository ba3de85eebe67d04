"""What methods remember from step to step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vision_train.processes import gather_rows


class RunningState(nn.Module):
    """Buffers that accompany a training: they move between devices with the task and stand in its checkpoint.

    They keep their type. Lightning's ``bf16-true`` turns all floating-point buffers of a task to 16 bits, in which an
    average with a momentum of 0.999 would never move.

    Every process holds the same values, since they are updated from what all processes hold. So it does no harm that
    DDP sends the buffers of the first process to the others.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RunningState:
        exact = {name: buffer for name, buffer in self.named_buffers(recurse=False) if buffer.is_floating_point()}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            moved = self.get_buffer(name)
            if moved.dtype != before.dtype:
                self.register_buffer(name, before.to(moved.device))
        return self


def move(average: Tensor, value: Tensor, momentum: float, usable: Tensor) -> None:
    """Move a running average in place: ``momentum * average + (1 - momentum) * value``, or not at all if not usable."""
    average.copy_(torch.where(usable, momentum * average + (1 - momentum) * value, average))


class ExponentialMean(RunningState):
    """Running mean of batches: ``mean <- momentum * mean + (1 - momentum) * mean of the batch``.

    Args:
        start: C values to start from; None takes the first batch's mean.
        momentum: Share of the old mean kept at each update, in [0, 1).
        classes: C, needed only where ``start`` is None.
    """

    value: Tensor
    """C."""
    started: Tensor
    """Whether ``value`` means anything."""

    def __init__(self, momentum: float, *, start: Tensor | None = None, classes: int = 0) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer(
            "value", torch.zeros(classes, dtype=torch.float32) if start is None else start.float().clone()
        )
        self.register_buffer("started", torch.tensor(start is not None))

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take a batch of probabilities (N C) of all processes into account."""
        mean = gather_rows(rows).mean(dim=0)
        usable = mean.isfinite().all()
        moved = torch.where(self.started, self.momentum * self.value + (1 - self.momentum) * mean, mean)
        self.value.copy_(torch.where(usable, moved, self.value))
        self.started.logical_or_(usable)


class QueueMean(RunningState):
    """Mean of the last batches' means.

    Args:
        classes: C.
        length: How many batches are kept.
    """

    rows: Tensor
    """Length x C."""
    filled: Tensor
    """How many batches were seen."""

    def __init__(self, classes: int, length: int = 128) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(length, classes, dtype=torch.float32))
        self.register_buffer("filled", torch.tensor(0))

    @property
    def value(self) -> Tensor:
        """C; as in the official code, the empty places of a queue that is not full count as zeros."""
        return self.rows.mean(dim=0)

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take a batch of probabilities (N C) of all processes into account."""
        mean = gather_rows(rows).mean(dim=0)
        place = (self.filled % len(self.rows)).reshape(1)
        usable = mean.isfinite().all()
        self.rows.index_copy_(0, place, torch.where(usable, mean, self.rows[place][0])[None])
        self.filled.add_(usable)
