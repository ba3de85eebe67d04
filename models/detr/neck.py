"""The neck: feature maps of a backbone become levels of one width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

GROUPS = 32
"""Each group norm has this many groups."""


class GroupNorm(nn.GroupNorm):
    """Group norm of any map; torch refuses groups of a single value, of which nothing but the bias is left.

    A small image has such groups where D is 32: the coarsest level of 64 x 64 pixels is one pixel.
    """

    def forward(self, input: Tensor) -> Tensor:
        """B x C x h x w -> the same."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class ChannelMapper(nn.Module):
    """Brings maps to one width, and adds coarser levels made of the last map.

    Args:
        channels: Of each map, the finest first.
        dim: Width of the levels, D; a multiple of 32.
        levels: Levels, V; those beyond the maps halve the sides of the last one again and again.
    """

    def __init__(self, channels: Sequence[int], dim: int, levels: int) -> None:
        super().__init__()
        self.maps = len(channels)
        added = levels - self.maps
        inputs = [*channels, *([channels[-1]] * min(added, 1)), *([dim] * (added - 1))]
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, dim, 1, bias=False)
                if level < self.maps
                else nn.Conv2d(width, dim, 3, stride=2, padding=1, bias=False),
                GroupNorm(GROUPS, dim),
            )
            for level, width in enumerate(inputs)
        )
        for convolution in self.convs:
            nn.init.xavier_uniform_(convolution[0].weight)  # type: ignore[index]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps B x C x h x w -> levels B x D x h x w."""
        levels = [convolution(each) for convolution, each in zip(self.convs, maps, strict=False)]
        last = maps[-1]
        for convolution in self.convs[self.maps :]:
            last = convolution(last)
            levels.append(last)
        return levels
