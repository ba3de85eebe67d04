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

    Attention weights are dropped in training and nothing else, as released.

    Args:
        sizes: Of the decoder.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.word_attn, self.img_attn = (CrossAttention(sizes.dim, sizes.heads, sizes.dropout) for _ in range(2))
        widen, narrow = feed_forward_layers(sizes.dim, sizes.hidden)
        # The third place is that of a dropout whose rate is 0.
        self.ffn = nn.Sequential(widen, nn.ReLU(), nn.Identity(), narrow)
        self.norm = nn.ModuleList(nn.LayerNorm(sizes.dim) for _ in range(3))

    def read(self, query: Tensor, text: Tensor, words: Tensor) -> Tensor:
        """What the query takes from the words, B x 1 x D; ``words`` blocks those that are padding."""
        return self.norm[0](self.word_attn(query, text, text, words))

    def forward(self, query: Tensor, asked: Tensor, keys: Tensor, values: Tensor, cells: Tensor) -> Tensor:
        """Look for what is asked and go on: B x 1 x D -> B x 1 x D; ``cells`` blocks those that are padding."""
        query = self.norm[1](query + self.img_attn(asked, keys, values, cells))
        return self.norm[2](query + self.ffn(query))


class ReasoningDecoder(nn.Module):
    """Stages through which one query goes, from zeros on.

    Two learned positions are added to what asks: one to the query that reads words, one to what was read when it asks
    for cells. One norm follows every stage on its way to the head, and none between stages.

    Args:
        sizes: Of it; a layer is a stage.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.vis_query_embed, self.text_query_embed = (nn.Embedding(1, sizes.dim) for _ in range(2))
        for each in (self.vis_query_embed, self.text_query_embed):
            nn.init.xavier_uniform_(each.weight)
        self.layers = nn.ModuleList(ReasoningStage(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.dim)

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
        keys = verified + visual.positions
        query = text.new_zeros(len(text), 1, text.shape[-1])
        states, rows = [], []
        for stage in self.layers:
            assert isinstance(stage, ReasoningStage)
            asked = stage.read(query + self.vis_query_embed.weight, text, words) + self.text_query_embed.weight
            if with_attention:
                rows.append(stage.img_attn.first_row(asked, keys, cells))
            query = stage(query, asked, keys, visual.tokens, cells)
            states.append(query[:, 0])
        return self.norm(torch.stack(states)), torch.stack(rows).mean(dim=0) if with_attention else None
