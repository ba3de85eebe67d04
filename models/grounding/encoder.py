"""Encoder layers of plain DETR (Carion et al., ECCV 2020): every token attends to every other, norms come last."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attention import additive_bias
from models.detr.layers import SelfAttention, feed_forward_layers


@dataclass(frozen=True)
class EncoderSizes:
    """Sizes of an encoder; those of TransVG unless said otherwise.

    Raises:
        ValueError: A size is no whole number of at least 1, or does not fit another one; the message begins with its
            name.
    """

    dim: int = 256
    """Width of tokens, D; a multiple of 4, because of the positions."""
    heads: int = 8
    """Heads of attention, which divide D."""
    hidden: int = 2048
    """Width of the hidden layer of the feed-forward networks."""
    layers: int = 6
    dropout: float = 0.1
    """Probability of dropping an attention weight, or a number behind attention, within and behind a feed-forward
    network, in training."""

    def __post_init__(self) -> None:
        """Refuse what is no encoder."""
        check_counts(self, "dim", "heads", "hidden", "layers")
        if self.dim % 4:
            raise ValueError(f"dim: is {self.dim}; must be a multiple of 4")
        if self.dim % self.heads:
            raise ValueError(f"heads: is {self.heads}; must divide dim, which is {self.dim}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: is {self.dropout!r}; must be a number of at least 0 and below 1")


def check_counts(sizes: object, *names: str, least: int = 1) -> None:
    """Refuse sizes that are no whole numbers.

    Raises:
        ValueError: One is none, or is below the least; the message begins with its name.
    """
    for name in names:
        value = getattr(sizes, name)
        if type(value) is not int or value < least:  # True is a whole number to Python
            raise ValueError(f"{name}: is {value!r}; must be a whole number of at least {least}")


class DenseEncoderLayer(nn.Module):
    """Attention among all tokens, and a feed-forward network; each is followed by a norm.

    Args:
        sizes: Of the encoder.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.self_attn = SelfAttention(sizes.dim, sizes.heads, dropout=sizes.dropout)
        self.linear1, self.linear2 = feed_forward_layers(sizes.dim, sizes.hidden)
        self.norm1, self.norm2 = nn.LayerNorm(sizes.dim), nn.LayerNorm(sizes.dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, tokens: Tensor, positions: Tensor, bias: Tensor) -> Tensor:
        """B x N x D -> B x N x D."""
        tokens = self.norm1(tokens + self.dropout(self.self_attn(tokens, positions, bias)))
        widened = self.dropout(self.linear1(tokens).relu())
        return self.norm2(tokens + self.dropout(self.linear2(widened)))


class DenseEncoder(nn.Module):
    """Layers of attention among all tokens, without a norm at the end.

    Args:
        sizes: Of it.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseEncoderLayer(sizes) for _ in range(sizes.layers))

    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor) -> Tensor:
        """Encode.

        Args:
            tokens: B x N x D.
            positions: B x N x D, added to queries and keys of every layer, and never to values.
            padding: B x N, True for tokens that none attends to.

        Returns:
            B x N x D. On padding it means nothing.
        """
        bias = _blocking(padding, tokens.dtype)
        for layer in self.layers:
            tokens = layer(tokens, positions, bias)
        return tokens

    def with_first_row(self, tokens: Tensor, positions: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Encode as :meth:`forward` does, and read what the first token attends to.

        Returns:
            B x N x D, and B x N: the attention weights of the first token, mean of all layers and heads, before
            dropout, float32 and detached. Padding has 0; rows sum to 1.
        """
        bias = _blocking(padding, tokens.dtype)
        rows = []
        for layer in self.layers:
            assert isinstance(layer, DenseEncoderLayer)
            rows.append(layer.self_attn.first_row(tokens, positions, bias))
            tokens = layer(tokens, positions, bias)
        return tokens, torch.stack(rows).mean(dim=0)


def _blocking(padding: Tensor, dtype: torch.dtype) -> Tensor:
    """B x N, True on padding -> B x 1 x 1 x N, minus infinity there."""
    return additive_bias(~padding[:, None, None], dtype)
