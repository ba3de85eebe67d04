"""Images as grids of patches, taken out and laid back."""

from __future__ import annotations

import torch
from torch import Tensor


def take_patches(images: Tensor, indices: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut patches out of images; patches not asked for are never copied.

    Args:
        images: B x C x H x W.
        indices: B x V, int64, in [0, N): patches in reading order of the grid.
        patch: Height and width of a patch in pixels, which tile the image.

    Returns:
        B x V x C x height x width.
    """
    height, width = patch
    columns = images.shape[-1] // width
    cells = images.unflatten(3, (-1, width)).unflatten(2, (-1, height))  # B C rows height columns width
    batch = torch.arange(len(images), device=images.device)[:, None]
    return cells[batch, :, indices // columns, :, indices % columns]


def lay_patches(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put whole images together: B x N x C x height x width, in reading order, to B x C x H x W."""
    rows = patches.unflatten(1, grid)  # B rows columns C height width
    return rows.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
