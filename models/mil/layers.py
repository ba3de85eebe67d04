"""Layers that carry the names of the official ACMIL files."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.mil.instances import PoolingWeights


class DimReduction(nn.Module):
    """Holds the embedding of an instance, which has no bias; a ReLU follows."""

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, width, bias=False)


class GatedAttention(nn.Module):
    """Holds the weights that score an embedded instance: ``w (tanh(V h) * sigmoid(U h)) + b``, a row a branch.

    Args:
        width: L, of an embedded instance.
        attention_width: A, of V h.
        branches: T.
        gated: False leaves U out.
    """

    def __init__(self, width: int, attention_width: int, branches: int, *, gated: bool = True) -> None:
        super().__init__()
        # Sequences of one, for the index in their names.
        self.attention_V = nn.Sequential(nn.Linear(width, attention_width))
        self.attention_U = nn.Sequential(nn.Linear(width, attention_width)) if gated else None
        self.attention_weights = nn.Linear(attention_width, branches)

    def pooling_weights(self, embedding: Tensor) -> PoolingWeights:
        """Give all that pooling a bag needs, with the weight that embeds an instance."""
        value, gate = self.attention_V, self.attention_U
        return PoolingWeights(
            embedding=embedding,
            score=self.attention_weights.weight,
            score_bias=self.attention_weights.bias,
            value=value.get_parameter("0.weight"),
            value_bias=value.get_parameter("0.bias"),
            gate=None if gate is None else gate.get_parameter("0.weight"),
            gate_bias=None if gate is None else gate.get_parameter("0.bias"),
        )


class Classifier(nn.Module):
    """One linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        """From ... x L to ... x C."""
        logits: Tensor = self.fc(features)
        return logits


def branch_classifiers(width: int, classes: int, branches: int) -> nn.ModuleList:
    """A classifier a branch; none for a single branch, which the bag's own classifier serves."""
    return nn.ModuleList(Classifier(width, classes) for _ in range(branches if branches > 1 else 0))


def classify_branches(classifiers: nn.ModuleList, features: Tensor) -> Tensor | None:
    """Give each branch (B x T x L) to its own classifier: B x T x C; None where there are no classifiers."""
    if not classifiers:
        return None
    weight = torch.stack([classifier.get_parameter("fc.weight") for classifier in classifiers])
    bias = torch.stack([classifier.get_parameter("fc.bias") for classifier in classifiers])
    # For few classes cheaper than a batched product, and all branches at once.
    return (features[:, :, None] * weight).sum(dim=-1) + bias
