"""Attention pooling of one bag of any length.

A bag is embedded, scored, and averaged by the softmax of its scores, part by part. With gradients ``pooling_gradient``
keeps what they need; without, a running softmax keeps nothing but the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.mil.instances import EmbeddedPart, PoolingWeights, at_least_float, compute_dtype, split_bag
from models.mil.pooling_gradient import AttentionPooling
from models.mil.stkim import Hide


class PooledBag(NamedTuple):
    """A bag of N instances, averaged S times."""

    features: Tensor
    """S x L."""
    attention: Tensor
    """S x N, at least float32; rows sum to 1."""
    scores: Tensor
    """S x N, at least float32, without gradient: attention before its softmax."""


def attention_pool(bag: Tensor, weights: PoolingWeights, hide: Hide | None = None) -> PooledBag:
    """Pool a bag by attention.

    Args:
        bag: N x D of any floating dtype; cast part by part to that of the weights, or of autocast.
        weights: Of the embedding and of the attention.
        hide: Says which scores are hidden; None hides none.

    Returns:
        Features and attention, with gradients to bag and weights, and scores. Without gradients and hidden scores,
        attention and scores alone take memory that grows with N.
    """
    if hide is not None or torch.is_grad_enabled():
        return _pool_at_once(bag, weights, hide)
    cast = weights.to(compute_dtype(weights.embedding))

    def embed(part: Tensor) -> tuple[Tensor, Tensor]:
        embedded = EmbeddedPart.of(part, cast)
        return embedded.instances, embedded.scores(cast)

    return pool_in_stream(bag, embed)


@torch.compiler.disable
def _pool_at_once(bag: Tensor, weights: PoolingWeights, hide: Hide | None) -> PooledBag:
    return PooledBag(*AttentionPooling.apply(bag, hide, *weights))


def pool_in_stream(bag: Tensor, embed: Callable[[Tensor], tuple[Tensor, Tensor]]) -> PooledBag:
    """Pool a bag by a softmax that is put right as higher scores turn up, so that no part is needed twice.

    Args:
        bag: N x D.
        embed: From a part of it, n x D, to its embedding, n x L, and its scores, S x n.
    """
    highest = torch.full((), float("-inf"), device=bag.device)
    mass = pooled = torch.zeros((), device=bag.device)
    every_score = []
    for part in split_bag(bag):
        instances, scores = embed(part)
        every_score.append(scores)
        before, highest = highest, torch.maximum(highest, scores.amax(dim=1, keepdim=True))
        shrink = (before - highest).exp()
        weights = (scores - highest).exp()
        part_mass = weights.sum(dim=1, keepdim=True)
        # Even weights of a large part add up to more than half precision holds: there the mean is taken instead.
        shares = weights / part_mass.clamp_min(torch.finfo(weights.dtype).tiny)
        mass = mass * shrink + part_mass
        pooled = pooled * shrink + part_mass * at_least_float(shares.to(instances.dtype) @ instances)
    scores = torch.cat(every_score, dim=1)
    return PooledBag((pooled / mass).to(instances.dtype), (scores - highest).exp_().div_(mass), scores)
