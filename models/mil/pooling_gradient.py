"""Attention pooling of one bag as a single step of autograd.

The gradient is written by hand. Left to autograd, every elementwise step keeps a map of its own over the instances and
its gradient makes another, so that memory traffic sets the pace. Here a part of the bag stays in the cache through all
of its steps, and the gradient of h is added up in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.mil.instances import EmbeddedPart, PoolingWeights, at_least_float, compute_dtype, split_bag, split_map
from models.mil.stkim import Hide

# The gradients of tanh, sigmoid and ReLU that autograd itself uses; their variants with an output work in place.
_aten = torch.ops.aten
_PER_PART = len(EmbeddedPart._fields)
_WEIGHTS = len(PoolingWeights._fields)


class AttentionPooling(torch.autograd.Function):
    """From a bag (N x D), what hides scores, and weights, to features (S x L), attention and scores (S x N)."""

    @staticmethod
    def forward(ctx: Any, bag: Tensor, hide: Hide | None, *tensors: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Pool the bag; scores have no gradient."""
        given = PoolingWeights(*tensors)  # type: ignore[arg-type]
        dtype = compute_dtype(given.embedding)
        weights = given.to(dtype)
        parts = [EmbeddedPart.of(part, weights) for part in split_bag(bag, dtype)]
        scores = torch.cat([part.scores(weights) for part in parts], dim=1)
        hidden = None if hide is None else hide(scores)
        if hidden is not None:
            scores.masked_fill_(hidden, float("-inf"))
        attention = scores.softmax(dim=1)
        masses = split_map(attention.to(dtype), dtype)
        features = reduce(
            torch.add, (at_least_float(m @ part.instances) for m, part in zip(masses, parts, strict=True))
        )
        ctx.save_for_backward(bag, attention, features, *weights, *(tensor for part in parts for tensor in part))
        ctx.mark_non_differentiable(scores)
        ctx.set_materialize_grads(False)
        return features.to(dtype), attention, scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_features: Tensor | None, d_attention: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        """Gradients of the bag and the weights; sums over parts are at least float32."""
        bag, attention, features, *tensors = ctx.saved_tensors
        weights = PoolingWeights(*tensors[:_WEIGHTS])
        dtype = weights.embedding.dtype
        parts = [EmbeddedPart(*tensors[at : at + _PER_PART]) for at in range(_WEIGHTS, len(tensors), _PER_PART)]
        if d_features is None:
            d_features = torch.zeros_like(features, dtype=dtype)
        # The gradient of a softmax has its mean under the attention taken off; for the features that needs no pass.
        mean = (d_features * features).sum(dim=1, keepdim=True)
        d_maps: tuple[Tensor | None, ...] = (None,) * len(parts)
        if d_attention is not None:
            mean = mean + (attention * d_attention).sum(dim=1, keepdim=True)
            d_maps = split_map(d_attention, dtype)
        totals: list[Tensor | None] = []
        d_bag = []
        masses = split_map(attention, dtype)
        for rows, part, mass, d_map in zip(split_bag(bag, dtype), parts, masses, d_maps, strict=True):
            d_mass = at_least_float(d_features @ part.instances.t())
            d_scores = mass * ((d_mass if d_map is None else d_mass + d_map) - mean)
            d_embedded, d_scoring = _part_gradient(part, weights, d_scores.to(d_features.dtype), mass, d_features)
            _add(totals, (d_embedded.t() @ rows.to(d_embedded.dtype), *d_scoring))
            if ctx.needs_input_grad[0]:
                d_bag.append(d_embedded @ weights.embedding)
        return torch.cat(d_bag).to(bag.dtype) if d_bag else None, None, *totals


def _part_gradient(
    part: EmbeddedPart, weights: PoolingWeights, d_scores: Tensor, mass: Tensor, d_features: Tensor
) -> tuple[Tensor, list[Tensor | None]]:
    """Gradients of what the embedding's ReLU is applied to, n x L, and of the weights that score."""
    d_instances = torch.mm(mass.to(d_features.dtype).t(), d_features)
    # A softmax does not feel what a bias adds to its whole row. A sum would leave rounding, which Adam magnifies.
    d_score_bias = torch.zeros_like(weights.score_bias)
    d_weights: list[Tensor | None] = [d_scores @ part.evidence(), d_score_bias, None, None, None, None]
    if part.value is None or weights.value is None:
        d_instances.addmm_(d_scores.t(), weights.score)
    else:
        d_evidence = d_scores.t() @ weights.score
        d_value = d_evidence if part.gate is None else d_evidence * part.gate
        _aten.tanh_backward.grad_input(d_value, part.value, grad_input=d_value)
        d_instances.addmm_(d_value, weights.value)
        d_weights[2:4] = d_value.t() @ part.instances, d_value.sum(dim=0)
        if part.gate is not None and weights.gate is not None:
            d_gate = d_evidence.mul_(part.value)
            _aten.sigmoid_backward.grad_input(d_gate, part.gate, grad_input=d_gate)
            d_instances.addmm_(d_gate, weights.gate)
            d_weights[4:] = d_gate.t() @ part.instances, d_gate.sum(dim=0)
    _aten.threshold_backward.grad_input(d_instances, part.instances, 0, grad_input=d_instances)
    return d_instances, d_weights


def _add(totals: list[Tensor | None], terms: Iterable[Tensor | None]) -> None:
    if not totals:
        totals.extend(None if term is None else at_least_float(term) for term in terms)
        return
    for total, term in zip(totals, terms, strict=True):
        if total is not None and term is not None:
            total += term
