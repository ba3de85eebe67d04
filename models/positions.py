"""Position tables of vision transformers: fixed sine-cosine ones, and any of them brought to another grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import resample_abs_pos_embed
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional


def sincos_positions(grid: tuple[int, int], width: int, *, prefix: int) -> Tensor:
    """Fixed sine-cosine positions: the first half of the channels tells the column, the second the row (MAE).

    Args:
        grid: Rows and columns of patches.
        width: Channels D, a multiple of 4.
        prefix: Rows of zeros ahead, for tokens without a place.

    Returns:
        1 x (prefix + rows * columns) x D, float32.
    """
    row_first = build_sincos2d_pos_embed(list(grid), width, interleave_sin_cos=True)
    return functional.pad(row_first.roll(width // 2, dims=1), (0, 0, prefix, 0))[None]


def position_prefix(model: VisionTransformer | Eva) -> int:
    """Count the leading rows of the position table that belong to class and register tokens."""
    return 0 if model.no_embed_class else int(model.num_prefix_tokens)


@torch.no_grad()
def fix_positions(model: nn.Module) -> None:
    """Give a timm vision transformer sine-cosine positions that no training changes; weights may replace them.

    Raises:
        ValueError: The network has no position table, or one that is not a multiple of 4 wide.
    """
    table = getattr(model, "pos_embed", None)
    if not isinstance(model, VisionTransformer) or table is None:
        raise ValueError(f"{type(model).__name__} has no table of positions that could be fixed")
    if model.embed_dim % 4:
        raise ValueError(
            f"this {type(model).__name__} has a width of {model.embed_dim}, and sin-cos positions need a multiple of 4"
        )
    table.copy_(sincos_positions(model.patch_embed.grid_size, model.embed_dim, prefix=position_prefix(model)))
    table.requires_grad_(False)


def fit_positions(positions: Tensor, grid: tuple[int, int], *, prefix: int, before: tuple[int, int]) -> Tensor:
    """Resize learned or sin-cos position embeddings to another patch grid.

    Bicubic without antialiasing, as DeiT, MAE and DropPos fine-tune; timm's own default antialiases and differs.

    Args:
        positions: 1 x (prefix + N) x D.
        grid: Rows and columns of patches wanted.
        prefix: Leading rows that belong to tokens (class, distillation), kept as they are.
        before: Rows and columns of patches that the table is of.

    Returns:
        1 x (prefix + rows * columns) x D.
    """
    if before == tuple(grid):
        return positions
    return resample_abs_pos_embed(positions, list(grid), list(before), num_prefix_tokens=prefix, antialias=False)


def source_grid(places: int, model: nn.Module) -> tuple[int, int]:
    """Rows and columns of the patches that a position table of a file belongs to.

    ``model.pretrained_model_args["img_size"]``, where timm looks too, may state the size of the images that the weights
    were made for. Else a table of a square number of places is square, as those of published files are, and any other
    is taken for the model's grid where it has as many places.

    Args:
        places: Patches that the table has a row for.
        model: What it is for.

    Raises:
        ValueError: The grid is unknown.
    """
    grid: tuple[int, int] = model.patch_embed.grid_size  # type: ignore[union-attr, assignment]
    sides = stated_size(model)
    if sides is not None:
        patch: tuple[int, int] = model.patch_embed.patch_size  # type: ignore[union-attr, assignment]
        known = sides[0] // patch[0], sides[1] // patch[1]
        if known[0] * known[1] == places:
            return known
    side = math.isqrt(max(places, 0))
    if side * side == places:
        return side, side
    if places == grid[0] * grid[1]:
        return grid
    raise ValueError(
        f"its pos_embed has {places} places, which form no square, and the model has {grid[0]} x {grid[1]}: the "
        "weights belong to images that are no squares, or to a network with other tokens"
    )


def stated_size(model: nn.Module) -> tuple[int, int] | None:
    """Size of the images that the weights of a model were made for, as :func:`made_for` states it."""
    stated = (getattr(model, "pretrained_model_args", None) or {}).get("img_size")
    return (stated, stated) if isinstance(stated, int) else stated


@contextmanager
def made_for(model: nn.Module, image_size: tuple[int, int] | None) -> Iterator[None]:
    """State, for as long as weights are converted, the size of the images that they were made for; None states none."""
    before = getattr(model, "pretrained_model_args", None)
    if image_size is not None:
        model.pretrained_model_args = {**(before or {}), "img_size": image_size}  # type: ignore[assignment]
    try:
        yield
    finally:
        if image_size is not None and before is None:
            del model.pretrained_model_args
        elif image_size is not None:
            model.pretrained_model_args = before  # type: ignore[assignment]
