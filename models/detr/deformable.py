"""Multi-scale deformable attention (Zhu et al., "Deformable DETR", ICLR 2021, equation 3) in plain PyTorch.

The usual form in PyTorch stacks what is sampled of all levels: B x N x D x V x K numbers. Here queries are taken in
chunks and levels one after the other, and the backward pass samples again, so that little more than the output is held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.detr.positions import Shapes, widths_and_heights

_SAMPLES_AT_ONCE = 2**20
"""Numbers that are sampled at a time, of all images and heads: 4 MiB in float32."""
_SAMPLES_AFFORDABLE = 4 * _SAMPLES_AT_ONCE
"""So many numbers of a level are kept for the backward pass, which saves the time of sampling again."""


class MultiScaleDeformableAttention(nn.Module):
    """Each query reads few points of each level, near its reference.

    Args:
        dim: Width of queries and values, D.
        heads: Heads; D is a multiple of them.
        levels: Feature maps, V.
        points: Points that a head reads of each level, K.
    """

    no_scores = "reads single points: there are no scores for a backend to compute"

    def __init__(self, dim: int, heads: int, levels: int, points: int = 4) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Let each head look in its own direction, point k at a distance of k + 1 pixels, and weigh all alike."""
        angles = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        distances = torch.arange(1, self.points + 1, dtype=torch.float32)
        offsets = directions[:, None, None] * distances[:, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def project(self, value: Tensor, shapes: Shapes, padding_mask: Tensor | None = None) -> list[Tensor]:
        """What queries read from.

        Args:
            value: B x S x D, the tokens of all levels, one level after the other.
            shapes: Height and width of each level.
            padding_mask: B x S, True on padding, which counts as zeros.

        Returns:
            For each level B H x D/H x h x w, float32: half precision would move places by parts of a pixel.
        """
        values = self.value_proj(value).float()
        if padding_mask is not None:
            values = values.masked_fill(padding_mask[..., None], 0.0)
        channels_first = values.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)
        parts = channels_first.split([height * width for height, width in shapes], dim=-1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]

    def forward(self, query: Tensor, references: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Attend.

        Args:
            query: B x N x D.
            references: B x N x V x 2, points, or B x N x V x 4, boxes; as shares of each level with its padding.
            levels: What :meth:`project` made of the tokens.

        Returns:
            B x N x D.
        """
        batch, queries, _ = query.shape
        by_head = (batch, queries, self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(query).view(*by_head, 2)
        weights = self.attention_weights(query).view(*by_head[:3], -1).softmax(-1).view(by_head)
        return self.output_proj(sample(levels, references, offsets, weights.float()).to(query.dtype))


def sample(levels: Sequence[Tensor], references: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sum what is read bilinearly near references, weighted; outside of a level there are zeros.

    Args:
        levels: B H x D/H x h x w each, float32.
        references: B x N x V x 2 or 4, points or boxes.
        offsets: B x N x H x V x K x 2, where to read: see :func:`places_of`.
        weights: B x N x H x V x K.

    Returns:
        B x N x D, float32.
    """
    if torch.compiler.is_compiling():  # a traced program takes any number of images: chunks cannot depend on it
        return _sample(levels, references, offsets, weights)
    queries, points = offsets.shape[1], offsets.shape[4]
    of_query = points * levels[0].shape[0] * levels[0].shape[1]
    if queries * of_query <= _SAMPLES_AFFORDABLE:
        return _sample(levels, references, offsets, weights)
    chunk = max(1, _SAMPLES_AT_ONCE // of_query)
    split = (each.split(chunk, dim=1) for each in (references, offsets, weights))
    if not torch.is_grad_enabled():
        return torch.cat([_sample(levels, *part) for part in zip(*split, strict=True)], dim=1)
    again: Any = {"use_reentrant": False, "preserve_rng_state": False}
    return torch.cat([checkpoint(_sample, levels, *part, **again) for part in zip(*split, strict=True)], dim=1)


def places_of(references: Tensor, offsets: Tensor, shapes: Shapes) -> Tensor:
    """Where to read, as shares of a level. Offsets count pixels from a point, or K-ths of half a box from its centre.

    Args:
        references: B x N x V x 2 or 4.
        offsets: B x N x H x V x K x 2.
        shapes: Height and width of each level.

    Returns:
        B x N x H x V x K x 2, float32, since a place counts in parts of a pixel.
    """
    offsets, references = offsets.float(), references[:, :, None, :, None].float()
    if references.shape[-1] == 2:
        return references + offsets / widths_and_heights(shapes, offsets.device)[:, None]
    return references[..., :2] + offsets / offsets.shape[4] * references[..., 2:] * 0.5


def _sample(levels: Sequence[Tensor], references: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    batch, _, heads = offsets.shape[:3]
    shapes = [(level.shape[-2], level.shape[-1]) for level in levels]
    # Queries last: the sum over the points of a query then runs along memory.
    grids = (2 * places_of(references, offsets, shapes) - 1).permute(0, 2, 3, 4, 1, 5).flatten(0, 1)  # B H, V, K, N, 2
    weights = weights.permute(0, 2, 3, 4, 1).flatten(0, 1)  # B H, V, K, N
    total: Tensor | None = None
    for maps, grid, weight in zip(levels, grids.unbind(1), weights.unbind(1), strict=True):
        sampled = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        read = (sampled * weight.unsqueeze(1)).sum(2)  # B H, D/H, N
        total = read if total is None else total + read
    assert total is not None
    return total.unflatten(0, (batch, heads)).flatten(1, 2).transpose(1, 2)
