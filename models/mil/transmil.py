"""TransMIL: a transformer over the instances of a bag."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.mil.bags import BagNetwork, Decision, Pooled
from models.mil.instances import compute_dtype
from models.mil.nystrom import NystromAttention
from models.mil.stkim import Hide

HEADS = 8


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = NystromAttention(width, heads=HEADS, landmarks=width // 2)

    def forward(self, tokens: Tensor, *, row: int | None = None) -> tuple[Tensor, Tensor | None]:
        attended, attention = self.attn(self.norm(tokens), row=row)
        return tokens + attended, attention


class _PositionalConvolutions(nn.Module):
    """Depthwise convolutions of three sizes over the instances, laid out as a square in their order (PPEG)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj, self.proj1, self.proj2 = (
            nn.Conv2d(width, width, size, padding=size // 2, groups=width) for size in (7, 5, 3)
        )

    def forward(self, tokens: Tensor, side: int) -> Tensor:
        """From 1 + side² tokens to as many, the first untouched."""
        square = tokens[1:].t().unflatten(1, (side, side))[None]
        square = square + self.proj(square) + self.proj1(square) + self.proj2(square)
        return torch.cat([tokens[:1], square[0].flatten(1).t()])


class TransMIL(BagNetwork):
    """Two layers of Nyström attention around convolutions (Shao et al. 2021); a class token stands for the bag.

    It needs a bag whole, and depends on the order of its instances.

    Args:
        in_features: D, width of an instance.
        width: L, width of an embedded instance, a multiple of 8: the number of heads. There are L / 2 landmarks.
        classes: C.

    Raises:
        ValueError: The heads do not divide the width.
    """

    heads = ("_fc2",)
    hides = False

    def __init__(self, in_features: int, width: int, classes: int) -> None:
        super().__init__(in_features)
        self.pos_layer = _PositionalConvolutions(width)
        self._fc1 = nn.Sequential(nn.Linear(in_features, width), nn.ReLU())
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.layer1 = _Layer(width)
        self.layer2 = _Layer(width)
        self.norm = nn.LayerNorm(width)
        self._fc2 = nn.Linear(width, classes)

    def pool(self, bag: Tensor, hide: Hide | None) -> Pooled:
        """Run one bag through the layers.

        In evaluation mode the attention is that of the class token in the last layer, approximated through landmarks,
        with what is negative set to 0 and scaled to a sum of 1.
        """
        instances = self._fc1(bag.to(compute_dtype(self._fc2.weight)))
        side = math.isqrt(len(bag) - 1) + 1
        repeated = side * side - len(bag)
        token = self.cls_token[0].to(instances.dtype)
        tokens, _ = self.layer1(torch.cat([token, instances, instances[:repeated]]))
        tokens, row = self.layer2(self.pos_layer(tokens, side), row=None if self.training else 0)
        feature = self.norm(tokens[:1])
        return Pooled(feature, None if row is None else _over_instances(row, len(bag))[None])

    def classify(self, pooled: Tensor) -> Decision:
        """Classify the bag."""
        bag_feature = pooled[:, 0]
        return Decision(self._fc2(bag_feature), None, bag_feature)


def _over_instances(row: Tensor, instances: int) -> Tensor:
    """Attention to the class token, N instances and those repeated behind them, as attention to instances."""
    own, again = row[1 : 1 + instances].clone(), row[1 + instances :]
    own[: len(again)] += again
    own = own.clamp_min_(0)
    return own / own.sum().clamp_min(torch.finfo(own.dtype).tiny)
