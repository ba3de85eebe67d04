"""What turns encoded patches into positions, and into the pixels of removed patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from models.positions import sincos_positions


@dataclass(frozen=True)
class DecoderShape:
    """Shape of a decoder; with a depth of 0 it is a linear head at the encoder's width, as in MP3."""

    width: int = 512
    depth: int = 2
    heads: int = 16

    def blocks(self) -> nn.Sequential:
        """Build the transformer blocks.

        Raises:
            ValueError: The heads do not divide the width.
        """
        if self.width % self.heads:
            raise ValueError(f"a decoder {self.width} wide cannot be split into {self.heads} heads")
        return nn.Sequential(*(Block(self.width, self.heads, qkv_bias=True) for _ in range(self.depth)))


class PositionDecoder(nn.Module):
    """Classifies encoded patches over all positions of the grid.

    Args:
        width: Channels D of the encoder.
        shape: Shape of the decoder.
        positions: N, positions of the grid.
    """

    def __init__(self, width: int, shape: DecoderShape, positions: int) -> None:
        super().__init__()
        self.embed: nn.Module = nn.Identity()
        self.blocks: nn.Module = nn.Identity()
        self.norm: nn.Module = nn.Identity()
        if shape.depth:
            self.embed = nn.Linear(width, shape.width)
            self.blocks = shape.blocks()
            self.norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.pred = nn.Linear(shape.width if shape.depth else width, positions)

    def forward(self, tokens: Tensor, prefix: int) -> Tensor:
        """Logits (B V N) of the patches among encoded tokens (B P+V D), of which the first P are no patches."""
        decoded: Tensor = self.pred(self.norm(self.blocks(self.embed(tokens)))[:, prefix:])
        return decoded


class PixelDecoder(nn.Module):
    """Reconstructs all patches from the visible ones (He et al., "Masked Autoencoders Are Scalable Vision Learners").

    Args:
        width: Channels D of the encoder.
        shape: Shape of the decoder.
        grid: Rows and columns of patches.
        values: Values of a patch, channels times pixels.

    Raises:
        ValueError: The shape has no blocks, without which no patch learns of another, or does not fit.
    """

    def __init__(self, width: int, shape: DecoderShape, grid: tuple[int, int], values: int) -> None:
        super().__init__()
        if not shape.depth or shape.width % 4:
            raise ValueError(
                f"pixels cannot be reconstructed by a decoder of depth {shape.depth} and width {shape.width}: it needs "
                "blocks, and a width that is a multiple of 4 for its positions"
            )
        self.embed = nn.Linear(width, shape.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(sincos_positions(grid, shape.width, prefix=1), requires_grad=False)
        self.blocks = shape.blocks()
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.pred = nn.Linear(shape.width, values)

    def forward(self, class_token: Tensor, patches: Tensor, visible: Tensor) -> Tensor:
        """Values of all patches, B x N x (height width C).

        Args:
            class_token: B x 1 x D, encoded.
            patches: B x V x D, encoded.
            visible: B x V, int64: where the patches belong.
        """
        embedded = self.embed(torch.cat([class_token, patches], dim=1))
        places = visible[..., None].expand(-1, -1, embedded.shape[-1])
        whole = self.mask_token.to(embedded.dtype).expand(len(visible), self.pos_embed.shape[1] - 1, -1)
        whole = whole.scatter(1, places, embedded[:, 1:])
        tokens = torch.cat([embedded[:, :1], whole], dim=1) + self.pos_embed
        decoded: Tensor = self.pred(self.norm(self.blocks(tokens))[:, 1:])
        return decoded


def pixel_losses(predicted: Tensor, patches: Tensor, visible: Tensor) -> Tensor:
    """Mean squared error over the removed patches, each normalised by its own mean and (unbiased) variance.

    Args:
        predicted: B x N x (height width C).
        patches: B x N x C x height x width, the truth.
        visible: B x V, int64: patches that were not removed.

    Returns:
        B, float32: the mean over each image's removed patches; 0 where none was removed.
    """
    truth = patches.float().movedim(2, -1).flatten(2)
    variance, mean = torch.var_mean(truth, dim=-1, keepdim=True)
    error = (predicted.float() - (truth - mean) / (variance + 1e-6).sqrt()).square().mean(-1)
    removed = torch.ones_like(error).scatter(1, visible, 0.0)
    return (error * removed).sum(dim=1) / removed.sum(dim=1).clamp_min(1)
