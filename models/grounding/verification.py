"""The discriminative encoder of VLTVG: which cells show what the text speaks of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention import additive_bias
from models.detr.layers import Mlp
from models.grounding.cross_attention import CrossAttention, GridAttention
from models.grounding.encoder import EncoderSizes
from models.grounding.visual import VisualTokens


class DiscriminativeEncoder(nn.Module):
    """Verifies cells by the text, and gives them context that the text asks for.

    The score of a cell is ``alpha exp(-(1 - cos)^2 / 2 sigma^2)``, with the cosine between the projected cell and the
    projected text that it attends to. It multiplies the sum of the cell and its context, each after a norm. The context
    is attention among cells that have attended to the text before. Where the cells are counts for this attention alone,
    and as offsets. Parts have the names of the official code: ``tf_scale`` is alpha, ``tf_sigma`` sigma.

    Args:
        sizes: Of which width, heads and dropout of attention weights count.
    """

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        dim, heads, dropout = sizes.dim, sizes.heads, sizes.dropout
        self.img2text_attn, self.img2textcond_attn = (CrossAttention(dim, heads, dropout) for _ in range(2))
        self.img_proj, self.text_proj = Mlp((dim, dim), xavier=False), Mlp((dim, dim), xavier=False)
        for layer in (*self.img_proj.layers, *self.text_proj.layers):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)  # as the release starts all matrices of its decoder, and no bias
        self.tf_scale, self.tf_sigma = nn.Parameter(torch.ones(1)), nn.Parameter(torch.full((1,), 0.5))
        self.img2img_attn = GridAttention(dim, heads, dropout)
        self.norm_img, self.norm_text_cond_img = nn.LayerNorm(dim), nn.LayerNorm(dim)

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
        score = self.scores(cells, self.img2text_attn(cells, text, text, words))
        conditioned = cells + self.img2textcond_attn(cells, text, text, words)
        context = self.img2img_attn.among(conditioned, cells, visual.grid, others)
        return (self.norm_img(cells) + self.norm_text_cond_img(context)) * score[..., None]

    def scores(self, cells: Tensor, text: Tensor) -> Tensor:
        """B x N x D cells and the text that each attends to -> B x N, at most ``tf_scale``."""
        cosine = functional.cosine_similarity(self.img_proj(cells).float(), self.text_proj(text).float(), dim=-1)
        return (self.tf_scale * torch.exp(-((1 - cosine) ** 2) / (2 * self.tf_sigma**2))).to(cells.dtype)
