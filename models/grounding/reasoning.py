"""The decoder of VLTVG: one query reads words and looks at the image in turns, stage by stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.attention import additive_bias
from models.detr.layers import feed_forward_layers
from models.grounding.cross_attention import CrossAttention
from models.grounding.encoder import EncoderSizes
from models.grounding.visual import VisualTokens


class ReasoningStage(nn.Module):
    """Reads words, looks at the cells by what it has read, and thinks it over.

    Args:
        sizes: Of the decoder.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.text_attn, self.image_attn = (CrossAttention(sizes.dim, sizes.heads, sizes.dropout) for _ in range(2))
        self.linear1, self.linear2 = feed_forward_layers(sizes.dim, sizes.hidden)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(sizes.dim) for _ in range(3))
        self.dropout = nn.Dropout(sizes.dropout)

    def read(self, query: Tensor, text: Tensor, words: Tensor) -> Tensor:
        """What the query takes from the words, B x 1 x D; ``words`` blocks those that are padding."""
        return self.norm1(self.dropout(self.text_attn(query, text, text, words)))

    def forward(self, query: Tensor, read: Tensor, keys: Tensor, values: Tensor, cells: Tensor) -> Tensor:
        """Go on from what was read: B x 1 x D -> B x 1 x D; ``cells`` blocks those that are padding."""
        query = self.norm2(query + self.dropout(self.image_attn(read, keys, values, cells)))
        widened = self.dropout(self.linear1(query).relu())
        return self.norm3(query + self.dropout(self.linear2(widened)))


class ReasoningDecoder(nn.Module):
    """Stages through which one learned query goes.

    Args:
        sizes: Of it; a layer is a stage.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, sizes.dim))
        self.stages = nn.ModuleList(ReasoningStage(sizes) for _ in range(sizes.layers))

    def forward(
        self, visual: VisualTokens, verified: Tensor, text: Tensor, text_padding: Tensor, *, with_attention: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Reason.

        Args:
            visual: N cells as the visual branch sees them: the values of attention to the image.
            verified: B x N x D, the same as the text verifies them: its keys, together with where they are.
            text: B x L x D.
            text_padding: B x L, True on padding.
            with_attention: Whether the attention to the cells is wanted.

        Returns:
            The query after each stage, S x B x D; and its attention to the cells, B x N, mean of all stages and heads.
        """
        words, cells = (additive_bias(~each[:, None, None], text.dtype) for each in (text_padding, visual.padding))
        query, keys = self.query.expand(len(text), 1, -1), verified + visual.positions
        states, rows = [], []
        for stage in self.stages:
            assert isinstance(stage, ReasoningStage)
            read = stage.read(query, text, words)
            if with_attention:
                rows.append(stage.image_attn.first_row(read, keys, cells))
            query = stage(query, read, keys, visual.tokens, cells)
            states.append(query[:, 0])
        return torch.stack(states), torch.stack(rows).mean(dim=0) if with_attention else None
