"""Attention from one sequence to another, and among the cells of a grid with relative positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention import AttentionModule, attention
from models.attention_row import class_token_row
from models.detr.boxes import interleave, wave_lengths

SPAN = 20
"""Cells of the offset that is one turn of the longest wave: the side of the grid of images of 640 pixels."""


class CrossAttention(AttentionModule):
    """Multi-head attention with separate queries, keys and values, and the parameters of ``nn.MultiheadAttention``.

    Args:
        dim: Width of all tokens, D.
        heads: Heads of attention, H, which divide D.
        dropout: Probability of dropping an attention weight in training.
    """

    has_bias = True

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.weight_dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * dim, dim)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.out_proj.in_features // self.heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Attend.

        Args:
            query: B x N x D.
            key: B x M x D.
            value: B x M x D.
            bias: Broadcasts to B x H x N x M; minus infinity blocks a pair.

        Returns:
            B x N x D.
        """
        queries, keys, values = self._projected(query, key, value)
        return self._attend(queries, keys, values, bias)

    def first_row(self, query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
        """The attention weights of the first query, mean of all heads, before dropout: B x M, float32, detached."""
        # Not under no_grad: autocast would keep the weights that it casts there, which then get no gradient at all.
        first, keys = self._projected(query[:, :1], key)
        return class_token_row(first, keys, bias)

    def _projected(self, *tokens: Tensor) -> list[Tensor]:
        """Queries, keys and values in this order, as many as are asked for: B x N x D -> B x H x N x D / H."""
        # Split at once, whose gradient is one tensor; each slice would fill the whole of it with zeros first.
        weights, offsets = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        return [
            functional.linear(each, weight, offset).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each, weight, offset in zip(tokens, weights, offsets, strict=False)
        ]

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        dropout = self.weight_dropout if self.training else 0.0
        attended = attention(queries, keys, values, bias, dropout, self.backend)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class GridAttention(CrossAttention):
    """Attention among the cells of a grid, whose scores know how far apart two cells lie.

    To the score of a query in row i, column j and a key in row k, column l comes ``q (r(i - k) + s(j - l))``, with r
    and s the sines and cosines of the offset, projected by the halves of the weights that project the keys. The
    official code has a table of offsets for grids of 20 x 20, whose values these are; here the grid may have any size.

    Args:
        dim: Width of the tokens, D; a multiple of 4.
        heads: Heads of attention, H.
        dropout: Probability of dropping an attention weight in training.
    """

    @property
    def learns_bias(self) -> bool:
        """The part of the scores that positions make is handed over as a bias."""
        return True

    def among(self, query: Tensor, value: Tensor, grid: tuple[int, int], bias: Tensor) -> Tensor:
        """Attend among cells.

        Args:
            query: B x N x D, of the cells, row by row; keys are made of them too.
            value: B x N x D.
            grid: Rows and columns of cells, N together.
            bias: Broadcasts to B x H x N x N; minus infinity blocks a pair.

        Returns:
            B x N x D.
        """
        queries, keys, values = self._projected(query, query, value)
        return self._attend(queries, keys, values, self._relative(queries, grid) + bias)

    def _relative(self, queries: Tensor, grid: tuple[int, int]) -> Tensor:
        """What offsets add to scores that are already divided by the root of the width of a head, B x H x N x N."""
        of_rows, of_columns = (
            self._offsets(half, cells)
            for half, cells in zip(self.in_proj_weight.chunk(3)[1].chunk(2, dim=1), grid, strict=True)
        )
        by_cell = queries.unflatten(2, grid) * queries.shape[-1] ** -0.5  # B H rows columns D/H
        down = torch.einsum("bhrcd,rkhd->bhrck", by_cell, of_rows)
        across = torch.einsum("bhrcd,clhd->bhrcl", by_cell, of_columns)
        return (down[..., None] + across[..., None, :]).flatten(4, 5).flatten(2, 3)

    def _offsets(self, weight: Tensor, cells: int) -> Tensor:
        """The projected offset of each cell of an axis from each other one, cells x cells x H x D / H."""
        places = torch.arange(cells, device=weight.device)
        offsets = torch.arange(1 - cells, cells, device=weight.device, dtype=torch.float32)
        turns = offsets[:, None] * (2 * math.pi / SPAN)
        waves = interleave(turns / wave_lengths(weight.shape[1], 10_000.0, weight.device))
        table = functional.linear(waves.to(weight.dtype), weight).unflatten(-1, (self.heads, -1))
        return table[places[:, None] - places[None, :] + cells - 1]
