"""Losses of networks for bags: pure functions, in float32 at least."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.mil.bags import InstanceLogits


def bag_loss(bag_logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of the bags, averaged.

    Args:
        bag_logits: B x C.
        labels: B, int64.
        class_weights: C, factors of the cross-entropy by label; the average is over bags, not over weights.
    """
    if class_weights is None:
        return functional.cross_entropy(bag_logits.float(), labels)
    return functional.cross_entropy(bag_logits.float(), labels, class_weights, reduction="none").mean()


def branch_loss(branch_logits: Tensor | None, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of every branch against its bag's label, averaged.

    Args:
        branch_logits: B x T x C; None, of a single branch, gives 0.
        labels: B, int64.
        class_weights: As for :func:`bag_loss`.
    """
    if branch_logits is None:
        return torch.zeros((), device=labels.device)
    repeated = labels[:, None].expand(-1, branch_logits.shape[1])
    return bag_loss(branch_logits.flatten(0, 1), repeated.flatten(), class_weights)


def diversity_loss(attention: Tensor) -> Tensor:
    """Mean cosine similarity between the attentions of different branches, in [0, 1].

    2 / (T (T - 1)) sum_{i<j} cos(P_i, P_j), taken from one T x T Gram matrix; heads apart, then averaged. It is small
    where branches look at different instances, also if each looks at a single one.

    Args:
        attention: B x T x N, or B x T x H x N, not negative. A single branch gives 0.
    """
    branches = attention.shape[1]
    if branches == 1:
        return torch.zeros((), device=attention.device)
    with torch.autocast(attention.device.type, enabled=False):
        by_head = functional.normalize(attention, dim=-1).movedim(1, -2)
        gram = by_head @ by_head.mT
        pairs = gram.triu(diagonal=1).sum(dim=(-2, -1))
        return pairs.mean() * (2 / (branches * (branches - 1)))


def negative_entropy(attention: Tensor) -> Tensor:
    """Sum of P log P over the instances, averaged over bags, branches and heads: what AEM adds to the bag loss.

    Args:
        attention: B x T x N, or B x T x H x N; zeros, as of padding, count as 0.
    """
    # The logarithm is kept finite, so that an attention of 0 has no gradient rather than an undefined one.
    logarithm = attention.clamp_min(torch.finfo(attention.dtype).tiny).log()
    return (attention * logarithm).sum(dim=-1).mean()


def clam_instance_loss(instances: InstanceLogits, labels: Tensor) -> Tensor:
    """Cross-entropy of CLAM's instance classifiers on the instances that it attends to most and least.

    For a bag's own class the most attended count as of the class, the least attended as not. With more than two classes
    the most attended count as not of each other class, and the sum is divided by the number of classes.

    Args:
        instances: Of ``ClamSB``. A bag too small to show any adds 0.
        labels: B, int64.

    Returns:
        Mean over the bags.
    """
    shown = instances.valid[:, None].float()  # B 1 K
    counts = shown.sum(dim=-1).clamp_min(1)

    def cross_entropy(logits: Tensor, target: int) -> Tensor:
        return -(logits.float().log_softmax(dim=-1)[..., target] * shown).sum(dim=-1) / counts

    inside = (cross_entropy(instances.attended, 1) + cross_entropy(instances.unattended, 0)) / 2  # B C
    classes = inside.shape[1]
    own = functional.one_hot(labels, classes)
    if classes == 2:
        return (inside * own).sum(dim=1).mean()
    outside = cross_entropy(instances.attended, 0)
    return torch.where(own.bool(), inside, outside).mean()
