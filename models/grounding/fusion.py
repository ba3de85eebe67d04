"""Fusion of image and text: one encoder over [REG], the words and the cells."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.detr.positions import embed_positions
from models.grounding.encoder import DenseEncoder, EncoderSizes
from models.grounding.visual import VisualTokens


class Fused(NamedTuple):
    """What the encoder makes of a batch."""

    sequence: Tensor
    """B x (1 + L + N) x D: [REG], L words, N cells. On padding it means nothing."""
    attention: Tensor | None
    """B x N: what [REG] attends to, of the cells; None unless it was asked for."""


class Fusion(nn.Module):
    """An encoder over [REG], words and cells, each with a learned position (TransVG, section 3.3).

    The official code has one table of positions; it is kept here in its parts, so that a table of another length of
    texts or size of images can be fitted part by part. [REG] and the positions begin as the official ones do, with
    normally distributed numbers.

    Args:
        sizes: Of the encoder.
        text_length: Most tokens of a text, L.
        grid: Rows and columns of cells, N together.
        sine_start: Whether positions of cells begin as the sines and cosines of where the cells are, which small
            networks on few images need less time to learn (our choice).
    """

    def __init__(
        self, sizes: EncoderSizes, text_length: int, grid: tuple[int, int], *, sine_start: bool = False
    ) -> None:
        super().__init__()
        self.dim, self.grid = sizes.dim, grid
        self.reg_token = nn.Parameter(torch.randn(1, sizes.dim))
        self.reg_position = nn.Parameter(torch.randn(1, sizes.dim))
        self.text_positions = nn.Parameter(torch.randn(text_length, sizes.dim))
        self.visual_positions = nn.Parameter(torch.randn(grid[0] * grid[1], sizes.dim))
        if sine_start:
            shown = torch.zeros(1, *grid, dtype=torch.bool, device=self.visual_positions.device)
            sines = embed_positions(shown, sizes.dim, within=1.0)[0].flatten(1).T
            self.visual_positions = nn.Parameter(sines.contiguous())
        self.encoder = DenseEncoder(sizes)

    def forward(self, text: Tensor, text_padding: Tensor, visual: VisualTokens, *, with_attention: bool) -> Fused:
        """Fuse.

        Args:
            text: B x L x D; a batch of short texts may have fewer tokens.
            text_padding: B x L, True on padding.
            visual: N cells, of width D.
            with_attention: Whether the attention of [REG] is wanted.

        Raises:
            ValueError: There are more tokens than positions of the text, or the cells form another grid.
        """
        batch, words = text_padding.shape
        if words > (most := len(self.text_positions)):
            raise ValueError(f"texts have {words} tokens, and this network has positions for {most}")
        if visual.grid != self.grid:
            theirs, ours = (" x ".join(map(str, grid)) for grid in (visual.grid, self.grid))
            raise ValueError(f"images make {theirs} cells, and this network has positions for {ours}")
        tokens = torch.cat((self.reg_token.expand(batch, 1, -1).to(text.dtype), text, visual.tokens), dim=1)
        table = torch.cat((self.reg_position, self.text_positions[:words], self.visual_positions))
        positions = table.to(tokens.dtype).expand(batch, -1, -1)
        padding = torch.cat((text_padding.new_zeros(batch, 1), text_padding, visual.padding), dim=1)
        if not with_attention:
            return Fused(self.encoder(tokens, positions, padding), None)
        sequence, row = self.encoder.with_first_row(tokens, positions, padding)
        return Fused(sequence, row[:, 1 + words :])
