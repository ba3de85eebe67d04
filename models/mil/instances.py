"""Instances of a bag embedded and scored, as many at a time as fit a processor's cache."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

_PART: Final = 1024
"""Instances at a time on a CPU: 2 MB of float32 at a width of 512, where matrix products are already efficient. In half
precision twice as many."""
_PART_ELSEWHERE: Final = 65_536
"""On accelerators, which want large products; it bounds the memory that the work on a part takes."""


class PoolingWeights(NamedTuple):
    """How instances are embedded and scored, in S rows: one for each of T branches, or for H heads of each.

    An instance x becomes h = ReLU(W x). Its scores are ``score (tanh(V h) * sigmoid(U h)) + score_bias``; without U the
    tanh alone, without V linear in h.
    """

    embedding: Tensor
    """W: L x D."""
    score: Tensor
    """S x A, or S x L where scores are linear in h."""
    score_bias: Tensor
    """S."""
    value: Tensor | None = None
    """V: A x L."""
    value_bias: Tensor | None = None
    """A."""
    gate: Tensor | None = None
    """U: A x L."""
    gate_bias: Tensor | None = None
    """A."""

    def to(self, dtype: torch.dtype) -> PoolingWeights:
        """Cast all of them."""
        return PoolingWeights(*(None if weight is None else weight.to(dtype) for weight in self))  # type: ignore[arg-type]


class EmbeddedPart(NamedTuple):
    """Some instances, n of the N, on their way to a score."""

    instances: Tensor
    """h: n x L."""
    value: Tensor | None
    """tanh(V h): n x A."""
    gate: Tensor | None
    """sigmoid(U h): n x A."""

    @classmethod
    def of(cls, part: Tensor, weights: PoolingWeights) -> EmbeddedPart:
        """Embed instances, n x D, in the dtype of the weights."""
        instances = torch.mm(part.to(weights.embedding.dtype), weights.embedding.t()).relu_()
        value = gate = None
        if weights.value is not None:
            assert weights.value_bias is not None
            value = _tanh_linear(instances, weights.value, weights.value_bias)
        if weights.gate is not None:
            assert weights.gate_bias is not None
            gate = torch.addmm(weights.gate_bias, instances, weights.gate.t()).sigmoid_()
        return cls(instances, value, gate)

    def evidence(self) -> Tensor:
        """What the scores are linear in: n x A, or n x L."""
        if self.value is None:
            return self.instances
        return self.value if self.gate is None else self.value * self.gate

    def scores(self, weights: PoolingWeights) -> Tensor:
        """Score the instances: S x n, at least float32."""
        return at_least_float(torch.addmm(weights.score_bias[:, None], weights.score, self.evidence().t()))


def _tanh_linear(instances: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if instances.device.type != "cpu" or instances.dtype.itemsize < 4:
        return torch.addmm(bias, instances, weight.t()).tanh_()
    # tanh(x) = 2 sigmoid(2 x) - 1: there the sigmoid is several times as fast. Half precision would feel the 1.
    return torch.addmm(bias, instances, weight.t(), beta=2, alpha=2).sigmoid_().mul_(2).sub_(1)


def split_bag(bag: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Cut a bag, N x D, into the parts that are worked through one after the other, in this dtype.

    A program that ``torch.export`` traces for bags of any size has a fixed number of steps, and so a single part.
    """
    return (bag,) if torch.compiler.is_exporting() else bag.split(_part_size(bag.device, dtype))


def split_map(rows: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Cut a map over a bag, S x N, into the same parts."""
    return rows.split(_part_size(rows.device, dtype), dim=1)


def _part_size(device: torch.device, dtype: torch.dtype) -> int:
    if device.type != "cpu":
        return _PART_ELSEWHERE
    return _PART if dtype.itemsize >= 4 else 2 * _PART


def compute_dtype(weight: Tensor) -> torch.dtype:
    """Tell which dtype a product with this weight runs in: that of autocast where it is on, else the weight's own."""
    device = weight.device.type
    if weight.dtype != torch.float64 and device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype


def at_least_float(tensor: Tensor) -> Tensor:
    """Bring half precision to float32."""
    return tensor if tensor.dtype.itemsize >= 4 else tensor.float()
