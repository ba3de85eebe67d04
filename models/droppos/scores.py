"""How well positions are predicted, image by image, so that scores can be gathered by image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.droppos.network import PositionOutput


class PositionScores(NamedTuple):
    """Sums over the dropped positions of each image; B each, float32, without gradient."""

    tokens: Tensor
    """Patches whose position was dropped."""
    correct: Tensor
    """Those of them put at their true position."""
    cross_entropy: Tensor
    """Cross-entropy against the true position alone, in nats: comparable between epochs, unlike the smoothed loss."""
    distance: Tensor
    """Euclidean distance between predicted and true position, in patches."""
    weight: Tensor
    """Weight in the loss."""
    weighted_correct: Tensor
    """Weight of those put at their true position."""

    def means(self) -> dict[str, Tensor]:
        """Means over all dropped positions of all images, and their number; 0 where there are none.

        Returns:
            ``acc1``, ``acc1_weighted`` (as published, by affinity), ``hard_ce``, ``grid_distance``, ``dropped``.
        """
        tokens, weight = self.tokens.sum(), self.weight.sum()
        tokens_or_one, weight_or_one = tokens.clamp_min(1), weight.clamp_min(torch.finfo(weight.dtype).tiny)
        return {
            "acc1": self.correct.sum() / tokens_or_one,
            "acc1_weighted": self.weighted_correct.sum() / weight_or_one,
            "hard_ce": self.cross_entropy.sum() / tokens_or_one,
            "grid_distance": self.distance.sum() / tokens_or_one,
            "dropped": tokens,
        }


@torch.no_grad()
def score_positions(output: PositionOutput, grid: tuple[int, int]) -> PositionScores:
    """Score one pass.

    Args:
        output: What the network returned.
        grid: Rows and columns of patches.
    """
    truth, asked = output.masks.visible, output.masks.dropped.float()
    predicted = output.logits.argmax(dim=-1)
    correct = (predicted == truth).float()
    cross_entropy = functional.cross_entropy(output.logits.float().flatten(0, 1), truth.flatten(), reduction="none")
    columns = grid[1]
    distance = torch.hypot(
        (predicted // columns - truth // columns).float(), (predicted % columns - truth % columns).float()
    )
    return PositionScores(
        tokens=asked.sum(1),
        correct=(asked * correct).sum(1),
        cross_entropy=(asked * cross_entropy.view_as(asked)).sum(1),
        distance=(asked * distance).sum(1),
        weight=output.weights.sum(1),
        weighted_correct=(output.weights * correct).sum(1),
    )
