"""The visual branch: the last map of a backbone, as tokens that have seen one another."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from models.detr.positions import embed_positions, padding_of_levels
from models.grounding.encoder import DenseEncoder, EncoderSizes


class VisualTokens(NamedTuple):
    """The cells of a map, row by row."""

    tokens: Tensor
    """B x N x D."""
    padding: Tensor
    """B x N, True for cells of padding."""
    grid: tuple[int, int]
    """Rows and columns of cells."""
    positions: Tensor
    """B x N x D: sines and cosines of where the cells are, which are not part of the tokens."""


class VisualBranch(nn.Module):
    """Backbone and encoder of plain DETR (Carion et al., ECCV 2020).

    Args:
        backbone: Maps images B x 3 x H x W to a list of maps, of which the last one is read.
        channels: Of that map.
        sizes: Of the encoder.
    """

    def __init__(self, backbone: nn.Module, channels: int, sizes: EncoderSizes) -> None:
        super().__init__()
        self.dim = sizes.dim
        self.backbone = backbone
        self.input_proj = nn.Conv2d(channels, sizes.dim, 1)
        # Under the name that it has in files of DETR, which hold a decoder beside it.
        self.transformer = nn.ModuleDict({"encoder": DenseEncoder(sizes)})

    def forward(self, images: Tensor, padding_mask: Tensor) -> VisualTokens:
        """See.

        Args:
            images: B x 3 x H x W, normalised, zeros on padding.
            padding_mask: B x H x W, True on padding, wherever it lies.
        """
        projected = self.input_proj(self.backbone(images)[-1])
        grid = projected.shape[-2], projected.shape[-1]
        (padding,) = padding_of_levels(padding_mask, [grid])
        positions = embed_positions(padding, self.dim, within=1.0).to(projected.dtype)
        tokens, places = (each.flatten(2).transpose(1, 2) for each in (projected, positions))
        padding = padding.flatten(1)
        return VisualTokens(self.transformer["encoder"](tokens, places, padding), padding, grid, places)
