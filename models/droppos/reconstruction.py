"""A picture of what the network believes: dropped patches laid back where it puts them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.droppos.network import PositionOutput
from models.droppos.patches import lay_patches, take_patches


class Reconstruction(NamedTuple):
    """The visible patches of each image, twice; B x C x H x W each."""

    truth: Tensor
    """At their true positions."""
    belief: Tensor
    """Those whose position was dropped at the most probable one; the most confident on top, kept ones below."""


@torch.no_grad()
def reconstruct_positions(
    images: Tensor, output: PositionOutput, *, grid: tuple[int, int], patch: tuple[int, int], background: float = 0.0
) -> Reconstruction:
    """Lay the visible patches out.

    Args:
        images: B x C x H x W, those of the pass.
        output: What the network returned for them.
        grid: Rows and columns of patches.
        patch: Height and width of a patch in pixels.
        background: Value of cells that no patch covers.
    """
    visible, dropped = output.masks.visible, output.masks.dropped
    patches = take_patches(images, visible, patch)
    confidence, believed = output.logits.float().softmax(dim=-1).max(dim=-1)
    # From 1 to 2 for dropped patches, 1 for the others, so that 0 is left for cells without any.
    height = 1 + confidence.masked_fill(~dropped, 0.0)
    cells = grid[0] * grid[1]
    believed = torch.where(dropped, believed, visible)
    return Reconstruction(
        truth=lay_patches(_place(patches, visible, height, cells, background), grid),
        belief=lay_patches(_place(patches, believed, height, cells, background), grid),
    )


def _place(patches: Tensor, places: Tensor, height: Tensor, cells: int, background: float) -> Tensor:
    """Put patches (B V ...) into cells (B N ...), the highest on top."""
    stacked = height.new_zeros(*places.shape, cells).scatter(2, places[..., None], height[..., None])
    highest, top = stacked.max(dim=1)  # B N
    batch = torch.arange(len(patches), device=patches.device)[:, None]
    return torch.where((highest > 0)[..., None, None, None], patches[batch, top], background)
