"""What a task says of its network as a program of its own, for those who have neither this package nor a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Tensors = Mapping[str, Tensor]
"""Inputs or outputs by name; the first dimension of each is the batch."""


def largest_difference(expected: Tensors, found: Tensors) -> float:
    """The largest difference of two numbers in one place; infinite where shapes differ or something is no number."""
    return max(_difference(expected[name], found[name]) for name in expected)


def _difference(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return float("inf")
    difference = (expected.double() - found.double()).abs().amax().item() if expected.numel() else 0.0
    return difference if difference == difference else float("inf")


@dataclass(frozen=True)
class Exported:
    """A network with what has to be done before and behind it."""

    module: nn.Module
    """In evaluation mode, on the CPU, in float32. It takes the inputs in their order and gives a tuple of outputs."""
    draw: Callable[[torch.Generator], dict[str, Tensor]]
    """Draws inputs of two samples such as the program will meet: examples to trace, and to compare results on."""
    outputs: tuple[str, ...]
    """Names of the outputs, in their order."""
    card: dict[str, Any]
    """What a caller has to know: meaning of inputs and outputs, classes. Written beside the program, and into it."""
    difference: Callable[[Tensors, Tensors], float] = largest_difference
    """How far found outputs are from expected ones, where the order of equals does not count."""

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        """The outputs that PyTorch computes, by name."""
        with torch.inference_mode():
            return self.named(self.module(*inputs.values()))

    def named(self, outputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Outputs by name."""
        return dict(zip(self.outputs, outputs, strict=True))
