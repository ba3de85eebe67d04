"""Attention from one sequence to another, and among the cells of a grid with relative positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.attention import AttentionModule, attention
from models.attention_row import class_token_row
from models.detr.boxes import interleave, wave_lengths


class CrossAttention(AttentionModule):
    """Multi-head attention with separate queries, keys and values.

    Args:
        dim: Width of all tokens, D.
        heads: Heads of attention, H, which divide D.
        dropout: Probability of dropping an attention weight in training.
    """

    has_bias = True

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.weight_dropout = heads, dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(4))
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

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
        queries, keys, values = self._split(self.q_proj(query)), self._split(self.k_proj(key)), self.v_proj(value)
        return self._attend(queries, keys, self._split(values), bias)

    def first_row(self, query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
        """The attention weights of the first query, mean of all heads, before dropout: B x M, float32, detached."""
        # Not under no_grad: autocast would keep the weights that it casts there, which then get no gradient at all.
        return class_token_row(self._split(self.q_proj(query[:, :1])), self._split(self.k_proj(key)), bias)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        dropout = self.weight_dropout if self.training else 0.0
        attended = attention(queries, keys, values, bias, dropout, self.backend)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        """B x N x D -> B x H x N x D / H."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class GridAttention(CrossAttention):
    """Attention among the cells of a grid, whose scores know how far apart two cells lie.

    To the score of a query in row i, column j and a key in row k, column l comes ``q (r(k - i) + s(l - j))``, with r
    and s the projected sines and cosines of the offset: the grid may have any size. VLTVG has relative positions for a
    grid of 20 x 20; that they are made this way is our choice.

    Args:
        dim: Width of the tokens, D; a multiple of 2.
        heads: Heads of attention, H.
        dropout: Probability of dropping an attention weight in training.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__(dim, heads, dropout)
        self.row_proj, self.column_proj = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        for layer in (self.row_proj, self.column_proj):
            nn.init.xavier_uniform_(layer.weight)

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
        queries, keys, values = self._split(self.q_proj(query)), self._split(self.k_proj(query)), self.v_proj(value)
        placed = self._relative(queries, grid) + bias
        return self._attend(queries, keys, self._split(values), placed)

    def _relative(self, queries: Tensor, grid: tuple[int, int]) -> Tensor:
        """What offsets add to scores that are already divided by the root of the width of a head, B x H x N x N."""
        rows, columns = grid
        by_cell = queries.unflatten(2, grid) * queries.shape[-1] ** -0.5  # B H rows columns D/H
        down = torch.einsum("bhrcd,rkhd->bhrck", by_cell, self._offsets(self.row_proj, rows))
        across = torch.einsum("bhrcd,clhd->bhrcl", by_cell, self._offsets(self.column_proj, columns))
        return (down[..., None] + across[..., None, :]).flatten(4, 5).flatten(2, 3)

    def _offsets(self, project: nn.Linear, cells: int) -> Tensor:
        """The projected offset of each cell of an axis to each other one, cells x cells x H x D / H."""
        weight = project.weight
        places = torch.arange(cells, device=weight.device)
        offsets = torch.arange(1 - cells, cells, device=weight.device, dtype=torch.float32)
        waves = interleave(offsets[:, None] / wave_lengths(weight.shape[1], 10_000.0, weight.device))
        table = project(waves.to(weight.dtype)).unflatten(-1, (self.heads, -1))
        return table[places[None, :] - places[:, None] + cells - 1]
