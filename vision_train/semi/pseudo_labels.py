"""Pseudo-labels with weights, and the loss of learning from them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class PseudoLabels(NamedTuple):
    """What a teacher says of a batch of unlabelled images, and how much each counts."""

    targets: Tensor
    """U class indices, or U x C probabilities."""
    weights: Tensor
    """U float32 in [0, 1]; 0 leaves an image out."""


def teacher_probabilities(logits: Tensor) -> Tensor:
    """Softmax (U C) of a teacher's logits (U C) in float32, through which no gradient flows."""
    return logits.detach().float().softmax(dim=-1)


def pseudo_label_loss(logits: Tensor, pseudo_labels: PseudoLabels) -> Tensor:
    """Weighted cross-entropy, averaged over **all** images of the batch, not over those that count.

    ``L = sum_i weight_i * CE(z_i, target_i) / U``. So an image that is left out makes the loss smaller, as in FixMatch
    and its successors.

    Args:
        logits: Of the student on strong views, U C.
        pseudo_labels: Of the same images; soft targets are taken as they are.

    Returns:
        Scalar, float32.
    """
    losses = F.cross_entropy(logits.float(), pseudo_labels.targets, reduction="none")
    return (losses * pseudo_labels.weights).mean()
