"""What a task says of its network as a program of its own, for those who have neither this package nor a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.timm_call import TimmCall

Tensors = Mapping[str, Tensor]
"""Inputs or outputs by name."""
BATCH = "batch"
FREE = {0: BATCH}
"""Dimensions of an input or output that have any length, with what they count."""


def largest_difference(expected: Tensors, found: Tensors) -> float:
    """The largest difference of two numbers in one place; infinite where shapes differ or something is no number."""
    return max(_difference(expected[name], found[name]) for name in expected)


def _difference(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return float("inf")
    difference = (expected.double() - found.double()).abs().amax().item() if expected.numel() else 0.0
    return difference if difference == difference else float("inf")


@dataclass(frozen=True)
class TimmModel:
    """The network as timm builds it by a name; it gives what the program gives."""

    call: TimmCall
    state: dict[str, Tensor]
    """Its weights by timm's names."""
    pixels: dict[str, Any]
    """How images are prepared, as timm's configuration says it."""


@dataclass(frozen=True)
class Exported:
    """A network with what has to be done before and behind it."""

    module: nn.Module
    """In evaluation mode, on the CPU, in float32. It takes the inputs in their order and gives a tuple of outputs."""
    draw: Callable[[torch.Generator], dict[str, Tensor]]
    """Draws inputs such as the program will meet, of two samples where it takes several at a time: examples to trace,
    and to compare results on."""
    outputs: tuple[str, ...]
    """Names of the outputs, in their order."""
    card: dict[str, Any]
    """What a caller has to know: preprocessing, meaning of inputs and outputs, classes. Written beside the program, and
    into it."""
    difference: Callable[[Tensors, Tensors], float] = largest_difference
    """How far found outputs are from expected ones, where the order of equals does not count."""
    inputs_of: Callable[[Mapping[str, Any]], Iterator[dict[str, Tensor]]] | None = None
    """From a batch of the run's own data, without random augmentation, to inputs of its samples; None where none can be
    made."""
    free: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Name of an input or output -> its dimensions of any length, where these are not the first one alone."""
    timm: TimmModel | None = None
    """The same as a model of timm with a single output; None where it is none."""
    not_timm: str = "this one is none of timm's"
    """Why it is none, of a task whose networks may be timm's."""
    pipeline: str | None = None
    """What hubs call its use, such as ``image-classification``."""

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        """The outputs that PyTorch computes, by name."""
        with torch.inference_mode():
            return self.named(self.module(*inputs.values()))

    def named(self, outputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Outputs by name."""
        return dict(zip(self.outputs, outputs, strict=True))

    def free_of(self, name: str) -> Mapping[int, str]:
        """Dimensions of an input or output that have any length, with what they count."""
        return self.free.get(name, FREE)

    def samples(self, inputs: Tensors) -> int:
        """How many samples inputs hold; a program that takes no batch takes one."""
        name, tensor = next(iter(inputs.items()))
        return len(tensor) if self.free_of(name).get(0) == BATCH else 1

    def first(self, inputs: Tensors, count: int) -> Tensors:
        """Inputs of so many samples at most."""
        batched = {name for name in inputs if self.free_of(name).get(0) == BATCH}
        return {name: tensor[:count] if name in batched else tensor for name, tensor in inputs.items()}
