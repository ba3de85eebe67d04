"""Small layers that encoder, decoder and heads share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.attention import AttentionModule, attention
from models.attention_row import class_token_row

PRIOR = 0.01
"""Probability of every class at the start: most queries are background."""


class Mlp(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        sizes: Width of the input, of each hidden layer, and of the output.
        xavier: Whether weights start as in the DETR family; else they start as PyTorch's linear layers do.
    """

    def __init__(self, sizes: Sequence[int], *, xavier: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in itertools.pairwise(sizes))
        for layer in self.layers if xavier else ():
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """... x first size -> ... x last size."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


def box_head(dim: int) -> Mlp:
    """A head that at first changes no box: its last layer is zero."""
    head = Mlp((dim, dim, dim, 4))
    nn.init.zeros_(head.layers[-1].weight)  # type: ignore[arg-type]
    return head


def class_head(dim: int, classes: int) -> nn.Linear:
    """A head that at first finds every class improbable."""
    head = nn.Linear(dim, classes)
    nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))
    return head


class SelfAttention(AttentionModule):
    """Attention among queries, with the parameters of ``nn.MultiheadAttention`` and any additive bias.

    Args:
        dim: Width of the queries, D.
        heads: Heads of attention, H.
        learns_bias: Whether the bias that it is called with learns; one that blocks pairs does not.
        dropout: Probability of dropping an attention weight in training.
    """

    has_bias = True

    def __init__(self, dim: int, heads: int, *, learns_bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self._learns_bias, self.weight_dropout = heads, learns_bias, dropout
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(nn.Linear(dim, 3 * dim).weight.detach()))
        self.in_proj_bias = nn.Parameter(nn.init.zeros_(self.in_proj_weight.new_empty(3 * dim)))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.out_proj.in_features // self.heads

    @property
    def learns_bias(self) -> bool:
        """Whether the bias receives a gradient in training."""
        return self._learns_bias

    def forward(self, query: Tensor, position: Tensor, bias: Tensor | None) -> Tensor:
        """Attend; positions count for queries and keys, not for values.

        Args:
            query: B x N x D.
            position: B x N x D.
            bias: Broadcasts to B x H x N x N; minus infinity blocks a pair.

        Returns:
            B x N x D.
        """
        dim = query.shape[-1]
        # Split at once, whose gradient is one tensor; each slice would fill the whole of it with zeros first.
        weights, offsets = (each.split((2 * dim, dim)) for each in (self.in_proj_weight, self.in_proj_bias))
        placed = nn.functional.linear(query + position, weights[0], offsets[0])
        value = nn.functional.linear(query, weights[1], offsets[1])
        queries, keys, values = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (*placed.chunk(2, dim=-1), value)
        )
        dropout = self.weight_dropout if self.training else 0.0
        attended = attention(queries, keys, values, bias, dropout, self.backend)
        # How it lies in memory depends on the kernel, so that a view of it could not be exported.
        return self.out_proj(torch.cat(attended.unbind(1), dim=-1))

    @torch.no_grad()
    def first_row(self, query: Tensor, position: Tensor, bias: Tensor | None) -> Tensor:
        """The attention weights of the first query, mean of all heads, before dropout; the N x N map is never held.

        Args:
            query: B x N x D, as for :meth:`forward`.
            position: B x N x D.
            bias: Broadcasts to B x H x N x N.

        Returns:
            B x N, float32, detached; rows sum to 1.
        """
        dim = query.shape[-1]
        placed = query + position
        queries = nn.functional.linear(placed[:, :1], self.in_proj_weight[:dim], self.in_proj_bias[:dim])
        keys = nn.functional.linear(placed, self.in_proj_weight[dim : 2 * dim], self.in_proj_bias[dim : 2 * dim])
        first, every = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (queries, keys))
        return class_token_row(first, every, bias)


def feed_forward_layers(dim: int, hidden: int) -> tuple[nn.Linear, nn.Linear]:
    """The two linear layers of a feed-forward network, of which a transformer layer keeps each under its own name."""
    layers = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
    return layers


def start_alike(modules: nn.ModuleList) -> None:
    """Let all modules of a list begin with the values of the first, as copies of one would."""
    for module in modules[1:]:
        module.load_state_dict(modules[0].state_dict())
