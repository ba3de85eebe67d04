"""The encoder of Relation-DETR: deformable attention among tokens, and a fusion of what all layers say of them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from models.detr.deformable import MultiScaleDeformableAttention
from models.detr.layers import feed_forward_layers, start_alike
from models.detr.positions import Shapes


class EncoderLayer(nn.Module):
    """Tokens read from tokens of all levels near them.

    Args:
        dim: Width of the tokens, D.
        heads: Heads of attention.
        levels: Feature maps.
        hidden: Width of the hidden layer of the feed-forward network.
    """

    def __init__(self, dim: int, heads: int, levels: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = MultiScaleDeformableAttention(dim, heads, levels)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1, self.linear2 = feed_forward_layers(dim, hidden)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self, tokens: Tensor, positions: Tensor, references: Tensor, shapes: Shapes, padding_mask: Tensor
    ) -> Tensor:
        """B x S x D -> B x S x D."""
        levels = self.self_attn.project(tokens, shapes, padding_mask)
        attended = self.self_attn(tokens + positions, references, levels)
        tokens = self.norm1(tokens + attended)
        return self.norm2(tokens + self.linear2(self.linear1(tokens).relu()))


class Encoder(nn.Module):
    """Layers of deformable attention.

    Args:
        dim: Width of the tokens, D.
        heads: Heads of attention.
        levels: Feature maps.
        hidden: Width of the hidden layer of the feed-forward networks.
        depth: Layers.
        memory_fusion: Whether the result is made of the input and the outputs of all layers; else it is the last one.
    """

    def __init__(
        self, dim: int, heads: int, levels: int, hidden: int, depth: int, *, memory_fusion: bool = True
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, levels, hidden) for _ in range(depth))
        start_alike(nn.ModuleList(cast(EncoderLayer, layer).self_attn for layer in self.layers))
        self.memory_fusion: nn.Sequential | None = None
        if memory_fusion:
            self.memory_fusion = nn.Sequential(
                nn.Linear((depth + 1) * dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.LayerNorm(dim)
            )

    def forward(
        self, tokens: Tensor, positions: Tensor, references: Tensor, shapes: Shapes, padding_mask: Tensor
    ) -> Tensor:
        """Encode.

        Args:
            tokens: B x S x D, of all levels, one level after the other.
            positions: B x S x D, added to the queries of every layer.
            references: B x S x V x 2, the centre of each token as shares of each level.
            shapes: Height and width of each level.
            padding_mask: B x S, True on padding.

        Returns:
            The memory, B x S x D.
        """
        states = [tokens]
        for layer in self.layers:
            states.append(layer(states[-1], positions, references, shapes, padding_mask))
        return states[-1] if self.memory_fusion is None else self.memory_fusion(torch.cat(states, dim=-1))
