"""ACMIL with multi-head attention (ACMIL-MHA)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from models.mil.bags import BagNetwork, Decision, Pooled
from models.mil.instances import PoolingWeights
from models.mil.layers import Classifier, DimReduction, branch_classifiers, classify_branches
from models.mil.pooling import attention_pool
from models.mil.stkim import Hide

HEADS = 8


class _PooledValues(nn.Module):
    """What follows attention: values, output projection, dropout, norm.

    The average of values is the value of the average, since attention sums to 1: only pooled instances are projected.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pooled: Tensor) -> Tensor:
        """From instances pooled by each head, B x H x L, to B x L."""
        weight = self.v_proj.weight.unflatten(0, (HEADS, -1))  # H c L
        values = torch.einsum("bhl,hcl->bhc", pooled, weight).flatten(1) + self.v_proj.bias
        normalised: Tensor = self.layer_norm(self.dropout(self.out_proj(values)))
        return normalised


class _Branch(_PooledValues):
    """A branch's attention: one learned query over all instances, in heads."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, dropout)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)

    def scoring(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Fold query (L) and keys into what scores an instance: weights H x L and biases H.

        q_h (K_h x + b_h) / sqrt(c) is linear in the instance x, so no key is ever computed.
        """
        by_head = self.q_proj(query).unflatten(0, (HEADS, -1))  # H c
        scale = 1 / math.sqrt(by_head.shape[1])
        keys = self.k_proj.weight.unflatten(0, by_head.shape)  # H c L
        bias = (by_head * self.k_proj.bias.unflatten(0, by_head.shape)).sum(dim=1)
        return torch.einsum("hc,hcl->hl", by_head, keys) * scale, bias * scale


class AcmilMHA(BagNetwork):
    """A block of multi-head attention a branch, and one for the bag that pools by the mean of their attentions.

    The published formulas, with the projections of N keys and N values folded into those of T x H query and pooled
    vectors: equal up to rounding, at a fraction of the time and memory.

    Args:
        in_features: D, width of an instance.
        width: L, width of an embedded instance, a multiple of 8: the number of heads.
        classes: C.
        branches: T.
        dropout: Of the output of each block.

    Raises:
        ValueError: The heads do not divide the width.
    """

    heads = ("classifier", "Slide_classifier")

    def __init__(self, in_features: int, width: int, classes: int, *, branches: int = 5, dropout: float = 0.1) -> None:
        super().__init__(in_features, (branches, HEADS))
        if width % HEADS:
            raise ValueError(f"ACMIL-MHA splits its width into {HEADS} heads; {width} is no multiple")
        self.dimreduction = DimReduction(in_features, width)
        self.sub_attention = nn.ModuleList(_Branch(width, dropout) for _ in range(branches))
        self.bag_attention = _PooledValues(width, dropout)
        self.q = nn.Parameter(torch.empty(1, branches, width))
        nn.init.normal_(self.q, std=1e-6)
        self.classifier = branch_classifiers(width, classes, branches)
        self.Slide_classifier = Classifier(width, classes)

    def pool(self, bag: Tensor, hide: Hide | None) -> Pooled:
        """Pool one bag by every head of every branch."""
        scoring = [branch.scoring(query) for branch, query in zip(self._branches, self.q[0], strict=True)]
        weights, biases = (torch.cat(each) for each in zip(*scoring, strict=True))
        return Pooled(*attention_pool(bag, PoolingWeights(self.dimreduction.fc1.weight, weights, biases), hide))

    def classify(self, pooled: Tensor) -> Decision:
        """Classify branches and bag."""
        by_branch = pooled.unflatten(1, self.map_shape)  # B T H L
        branches = zip(self._branches, by_branch.unbind(dim=1), strict=True)
        features = torch.stack([branch(heads) for branch, heads in branches], dim=1)
        bag_feature = self.bag_attention(by_branch.mean(dim=1))
        return Decision(self.Slide_classifier(bag_feature), classify_branches(self.classifier, features), bag_feature)

    @property
    def _branches(self) -> Iterable[_Branch]:
        return cast(Iterable[_Branch], self.sub_attention)
