"""Where the tokens of several feature maps lie, in images that are padded at the right and at the bottom."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.detr.boxes import interleave, wave_lengths

Shapes = Sequence[tuple[int, int]]
"""Height and width of each level."""

SMALLEST_SIDE = 0.05
"""Side of the boxes proposed on the finest level; it doubles from level to level."""


def widths_and_heights(shapes: Shapes, device: torch.device) -> Tensor:
    """V x 2, of each level; filled in on the device, since the host would wait for a copy."""
    sides = [torch.full((1,), float(side), device=device) for height, width in shapes for side in (width, height)]
    return torch.cat(sides).view(-1, 2)


def padding_of_levels(padding_mask: Tensor, shapes: Shapes) -> list[Tensor]:
    """Sample the mask of the pixels (B H W, True on padding) at the nearest pixel of each token, level by level."""
    pixels = padding_mask[:, None].float()
    return [functional.interpolate(pixels, size=shape)[:, 0].bool() for shape in shapes]


def embed_positions(padding_mask: Tensor, width: int, temperature: float = 10_000.0, *, within: float = 0.5) -> Tensor:
    """Embed the places of tokens by sines and cosines, as shares of the part without padding.

    Args:
        padding_mask: B h w, True on padding.
        width: Numbers for each token; a multiple of 4.
        temperature: Ratio of the longest to the shortest wave, nearly.
        within: Where in its cell a token lies: 0.5 for the middle, as detectors since Deformable-DETR have it, 1 for
            the end, as plain DETR.

    Returns:
        B x width x h x w, float32, first of the rows, then of the columns. On padding they mean nothing.
    """
    valid = (~padding_mask).float()
    waves = wave_lengths(width // 2, temperature, padding_mask.device)
    halves = []
    for dimension in (1, 2):
        counts = valid.cumsum(dimension)
        last = counts.select(dimension, -1).unsqueeze(dimension)
        shares = (counts - 1 + within) / (last + 1e-6) * (2 * math.pi)
        halves.append(interleave(shares[..., None] / waves))
    return torch.cat(halves, dim=-1).permute(0, 3, 1, 2)


def valid_ratios(masks: Sequence[Tensor]) -> Tensor:
    """Shares of width and height of each level that are no padding, B x V x 2, read at its first row and column."""
    return torch.stack(
        [torch.stack(((~mask[:, 0]).float().mean(1), (~mask[:, :, 0]).float().mean(1)), dim=-1) for mask in masks],
        dim=1,
    )


def token_centres(shapes: Shapes, ratios: Tensor) -> Tensor:
    """Centres of all tokens as shares (x, y) of the image without padding, B x S x 2; above 1 on padding."""
    levels = []
    for level, (height, width) in enumerate(shapes):
        rows = torch.arange(height, dtype=torch.float32, device=ratios.device) + 0.5
        columns = torch.arange(width, dtype=torch.float32, device=ratios.device) + 0.5
        x = columns / (ratios[:, level, 0, None] * width)
        y = rows / (ratios[:, level, 1, None] * height)
        centres = torch.stack((x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)), dim=-1)
        levels.append(centres.flatten(1, 2))
    return torch.cat(levels, dim=1)


def propose_boxes(centres: Tensor, shapes: Shapes) -> Tensor:
    """A square about each token, B x S x 4 (centre x, y, sides); its side depends on the level alone."""
    sides = [
        torch.full((height * width,), SMALLEST_SIDE * 2.0**level, device=centres.device)
        for level, (height, width) in enumerate(shapes)
    ]
    side = torch.cat(sides)[None, :, None].expand(centres.shape[0], -1, 2)
    return torch.cat((centres, side), dim=-1)
