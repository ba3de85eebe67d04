"""The discriminative encoder of VLTVG: which cells show what the text speaks of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention import additive_bias
from models.grounding.cross_attention import CrossAttention, GridAttention
from models.grounding.encoder import EncoderSizes
from models.grounding.visual import VisualTokens


class DiscriminativeEncoder(nn.Module):
    """Verifies cells by the text, and gives them context that the text asks for.

    The score of a cell is ``alpha exp(-(1 - cos)^2 / 2 sigma^2)``, with the cosine between the projected cell and the
    projected text that it attends to. It multiplies the sum of the cell and its context, each after a norm; where the
    norms stand is our choice. The context is attention among cells that have attended to the text before.

    Args:
        sizes: Of which width, heads and dropout count.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        dim, heads, dropout = sizes.dim, sizes.heads, sizes.dropout
        self.text_to_verify, self.text_as_condition = (CrossAttention(dim, heads, dropout) for _ in range(2))
        self.cell_proj, self.text_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.alpha, self.sigma = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.5))
        self.context = GridAttention(dim, heads, dropout)
        self.norm_cell, self.norm_context = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, visual: VisualTokens, text: Tensor, text_padding: Tensor) -> Tensor:
        """Verify.

        Args:
            visual: N cells of width D.
            text: B x L x D.
            text_padding: B x L, True on padding.

        Returns:
            B x N x D. On padding it means nothing.
        """
        cells = visual.tokens
        words, others = (additive_bias(~each[:, None, None], cells.dtype) for each in (text_padding, visual.padding))
        asked = cells + visual.positions
        score = self.scores(cells, self.text_to_verify(asked, text, text, words))
        conditioned = cells + self.text_as_condition(asked, text, text, words)
        context = self.context.among(conditioned, cells, visual.grid, others)
        return (self.norm_cell(cells) + self.norm_context(context)) * score[..., None]

    def scores(self, cells: Tensor, text: Tensor) -> Tensor:
        """B x N x D cells and the text that each attends to -> B x N, at most ``alpha``."""
        cosine = functional.cosine_similarity(self.cell_proj(cells).float(), self.text_proj(text).float(), dim=-1)
        return (self.alpha * torch.exp(-((1 - cosine) ** 2) / (2 * self.sigma**2))).to(cells.dtype)
