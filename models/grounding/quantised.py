"""A second head that classifies coordinates, so that a box comes with a confidence.

ACTRESS (arXiv 2407.03251) publishes that a plain MLP classifies the quantised centre, width and height of the box with
cross-entropy, and that the confidence of a pseudo label is its. The number of bins, what they stand for, soft targets
and how a confidence is read were not available: all of them are our choice.

A coordinate lies in [0, 1] of the padded frame. Bin k of K covers ``k / K`` to ``(k + 1) / K`` and stands for its
middle, so that a coordinate is at most ``1 / 2K`` away from what its bin stands for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from models.detr.layers import Mlp

TargetKind = Literal["hard", "two_hot", "gaussian"]


class QuantisedHead(nn.Module):
    """Scores the bins of each coordinate.

    Args:
        dim: Width of the token that it reads, D.
        bins: Of each coordinate, K.
    """

    def __init__(self, dim: int, bins: int) -> None:
        super().__init__()
        self.mlp = Mlp((dim, dim, dim, 4 * bins))

    def forward(self, token: Tensor) -> Tensor:
        """B x D -> B x 4 x K."""
        return self.mlp(token).unflatten(-1, (4, -1))


def quantise(boxes: Tensor, bins: int) -> Tensor:
    """The bin of each coordinate, ``clamp(floor(v K), 0, K - 1)``: ... in [0, 1] -> ..., int64."""
    return (boxes * bins).floor().long().clamp(0, bins - 1)


def bin_middles(bins: int, like: Tensor) -> Tensor:
    """What the bins stand for, ``(k + 0.5) / K``: K numbers, of the type and on the device of a tensor."""
    return (torch.arange(bins, dtype=like.dtype, device=like.device) + 0.5) / bins


def likeliest_box(logits: Tensor) -> Tensor:
    """The middle of the bin with the largest score: ... x 4 x K -> ... x 4."""
    return bin_middles(logits.shape[-1], logits)[logits.argmax(dim=-1)]


def expected_box(probabilities: Tensor) -> Tensor:
    """The mean of the middles of all bins, which inverts ``two_hot`` targets: ... x 4 x K -> ... x 4."""
    return probabilities @ bin_middles(probabilities.shape[-1], probabilities)


def bin_targets(boxes: Tensor, bins: int, kind: TargetKind = "hard", deviation: float = 1.5) -> Tensor:
    """What the head should say of boxes.

    Args:
        boxes: ... x 4, in [0, 1].
        bins: K.
        kind: ``hard`` asks for the one bin of a coordinate. ``two_hot`` shares the probability between the two bins
            whose middles are next to the coordinate, so that the expectation is the coordinate wherever it lies between
            the first and the last middle. ``gaussian`` spreads it by ``exp(-d^2 / 2 deviation^2)``, with the distance d
            of the coordinate from the middle of a bin.
        deviation: In bins.

    Returns:
        ... x 4 x K; sums to 1 over the bins.

    Raises:
        ValueError: There is no such kind.
    """
    places = torch.arange(bins, dtype=boxes.dtype, device=boxes.device)
    if kind == "hard":
        return (quantise(boxes, bins)[..., None] == places).to(boxes.dtype)
    within = boxes * bins - 0.5
    if kind == "two_hot":
        return (1 - (within.clamp(0, bins - 1)[..., None] - places).abs()).clamp(min=0)
    if kind == "gaussian":
        return (-0.5 * ((within[..., None] - places) / deviation) ** 2).softmax(dim=-1)
    raise ValueError(f"targets of bins are {', '.join(get_args(TargetKind))}; {kind!r} is none of them")


def bin_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, mean of the four coordinates.

    Args:
        logits: B x 4 x K.
        targets: B x 4 x K, from :func:`bin_targets`.

    Returns:
        B.
    """
    return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean(dim=-1)


def geomean_max(probabilities: Tensor) -> Tensor:
    """Geometric mean over coordinates of the largest probability; exactly ``1 / K`` where all bins are alike."""
    return _geometric_mean(probabilities.amax(dim=-1))


def mean_max(probabilities: Tensor) -> Tensor:
    """Mean over coordinates of the largest probability."""
    return probabilities.amax(dim=-1).mean(dim=-1)


def prod_max(probabilities: Tensor) -> Tensor:
    """Probability that all four coordinates lie in their likeliest bins, if they were independent."""
    return probabilities.amax(dim=-1).prod(dim=-1)


def window_max(probabilities: Tensor) -> Tensor:
    """Geometric mean over coordinates of the probability of the likeliest bin and of the bins beside it.

    Scores that are scaled up may lower it, unlike the three above: where a distant bin is nearly as likely as the first
    one and its own neighbours are not, that bin gains and they lose.
    """
    likeliest = probabilities.argmax(dim=-1, keepdim=True)
    places = torch.arange(probabilities.shape[-1], device=probabilities.device)
    return _geometric_mean(probabilities.where((places - likeliest).abs() <= 1, 0).sum(dim=-1))


def one_minus_entropy(probabilities: Tensor) -> Tensor:
    """Mean over coordinates of ``1 - H / log K``; 0 where all bins are alike."""
    entropy = torch.special.entr(probabilities).sum(dim=-1)
    return (1 - entropy / math.log(probabilities.shape[-1])).mean(dim=-1).clamp(0, 1)


READOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    each.__name__: each for each in (geomean_max, mean_max, prod_max, window_max, one_minus_entropy)
}
"""Ways to read a confidence in [0, 1] off probabilities: ... x 4 x K -> ..., by name."""


def _geometric_mean(values: Tensor) -> Tensor:
    """... x 4 -> ..., exact where all four are equal.

    The square root of a square is exact (IEEE 754); a power of 0.25 need not be.
    """
    first, second, third, fourth = values.unbind(dim=-1)
    return ((first * second).sqrt() * (third * fourth).sqrt()).sqrt()
