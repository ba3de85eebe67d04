"""The attention that an image's cells receive in the last block, as one row, without ever holding the N x N map.

Windowed models are the exception: the map of a window, 49 x 49 in Swin, is held for as long as it takes to average it.

A class token's row is the softmax attention of that token to all patches (TransMix, MixPro). Where a model averages its
tokens instead, the exact counterpart is the mean over all queries: mean_i sum_j A_ij v_j = sum_j (mean_i A_ij) v_j.
Both are means over heads, taken before attention dropout, and the columns of prefix tokens (class, distillation,
registers) are left out after the softmax. The block's own projections are read where they enter its attention, which
stays fused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal, NamedTuple, cast

import torch
from timm.layers import PatchEmbed
from timm.models.eva import Eva
from timm.models.swin_transformer import (
    SwinTransformer,
    SwinTransformerBlock,
    SwinTransformerStage,
    window_partition,
    window_reverse,
)
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from models.routed_attention import ROUTED, Observe, RoutedAttention

QUERIES_AT_ONCE = 32
"""Queries whose attention is held at a time while a column mean is summed up."""


class Prediction(NamedTuple):
    """What a model predicts, and where it looked."""

    logits: Tensor
    """B x K, as the model returns them."""
    attention: Tensor
    """B x N, float32, detached: the cells of ``attention_source(...).grid``, row by row. Rows sum to at most 1."""


@dataclass(frozen=True)
class AttentionSource:
    """Where a model's attention row comes from."""

    kind: Literal["class token", "column mean"]
    grid: tuple[int, int]
    """Rows and columns of cells."""


@dataclass(frozen=True)
class _Reading:
    """How the row of one model is read: what its last attention sees, and what makes a row over the grid of it."""

    source: AttentionSource
    module: RoutedAttention
    observe: Observe
    to_row: Callable[[Tensor], Tensor]


def attention_source(model: nn.Module, image_size: int | tuple[int, int]) -> AttentionSource:
    """Say where the attention row of a model comes from.

    Args:
        model: A timm network, routed by ``install_attention``; may live on the meta device.
        image_size: Height and width of the images in pixels, or the side of square ones.

    Raises:
        ValueError: No usable row exists, and why.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return _reading(model, (height, width)).source


def predict_with_attention(model: nn.Module, images: Tensor) -> Prediction:
    """Run a model and read the attention row of its last block on the way.

    The model is called as always, so that whatever wraps it (``torch.compile``, autocast, checkpointing) does its work;
    nothing stays on it afterwards, and a recomputation during the backward pass reads nothing again.

    Args:
        model: A timm network, routed by ``install_attention``.
        images: B x C x H x W.

    Raises:
        ValueError: No usable row exists, and why.
    """
    height, width = images.shape[-2:]
    reading = _reading(model, (height, width))
    module = reading.module
    module.observe = reading.observe
    try:
        logits = model(images)
        observed = module.observed
    finally:
        module.observe = module.observed = None
    if observed is None:
        raise RuntimeError(f"{type(model).__name__} ran without its last attention module")
    with torch.no_grad():
        return Prediction(logits, reading.to_row(observed))


def _reading(model: nn.Module, size: tuple[int, int]) -> _Reading:
    # The network may be wrapped, by DistributedDataParallel for instance.
    for network in model.modules():
        if isinstance(network, SwinTransformer):
            return _read_windows(network, size)
        if isinstance(network, (VisionTransformer, Eva)):
            return _read_tokens(network, size)
    raise ValueError(
        f"{type(model).__name__} has no attention row; ViT, DeiT, EVA, DINO and Swin (V1) of timm have one"
    )


def _routed(network: nn.Module, block: nn.Module) -> RoutedAttention:
    name, found = type(network).__name__, getattr(block, "attn", None)
    if isinstance(found, RoutedAttention):
        return found
    if found is None:
        raise ValueError(f"{name} has no attention row: the attention of a {type(block).__name__} cannot be seen")
    if type(found) in ROUTED:
        raise ValueError(f"{name} has no attention row yet: call install_attention(model) first")
    raise ValueError(f"{name} has no attention row: its {type(found).__name__} cannot be routed")


def _read_tokens(network: VisionTransformer | Eva, size: tuple[int, int]) -> _Reading:
    name, prefix = type(network).__name__, network.num_prefix_tokens
    if not len(network.blocks):
        raise ValueError(f"{name} has no attention row: it has no blocks")
    module = _routed(network, network.blocks[-1])
    if network.attn_pool is not None or network.global_pool not in ("token", "avg"):
        pooling = network.global_pool or "none"
        raise ValueError(f"{name} has no attention row with pooling {pooling!r}; `token` and `avg` have one")
    if isinstance(network.patch_drop, nn.Module) and not isinstance(network.patch_drop, nn.Identity):
        raise ValueError(f"{name} has no attention row over the whole grid while it drops patches (patch_drop_rate)")
    rows, columns = network.patch_embed.dynamic_feat_size(size)
    kind: Literal["class token", "column mean"] = "class token" if network.global_pool == "token" else "column mean"
    if kind == "class token":
        observe: Observe = class_token_row
    else:
        pooled_from = 0 if getattr(network, "pool_include_prefix", False) else prefix
        observe = _column_mean_from(pooled_from)
    return _Reading(AttentionSource(kind, (rows, columns)), module, observe, lambda row: row[:, prefix:])


def _read_windows(network: SwinTransformer, size: tuple[int, int]) -> _Reading:
    stages = cast(Sequence[SwinTransformerStage], network.layers)
    block = cast(SwinTransformerBlock, stages[-1].blocks[-1])
    module = _routed(network, block)
    if network.global_pool != "avg":
        raise ValueError(f"SwinTransformer has no attention row with pooling {network.global_pool!r}; `avg` has one")
    rows, columns = cast(PatchEmbed, network.patch_embed).dynamic_feat_size(size)
    for stage in stages:
        if not isinstance(stage.downsample, nn.Identity):
            rows, columns = -(-rows // 2), -(-columns // 2)
    grid = (rows, columns)
    to_row = partial(_merge_windows, grid=grid, window=block.window_size, shift=block.shift_size)
    return _Reading(AttentionSource("column mean", grid), module, window_attention, to_row)


def class_token_row(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of the first token to all M keys, B x M."""
    return _softmax(query[:, :, :1], key, bias if bias is None else _queries(bias, 0, 1)).mean(1)[:, 0]


@cache
def _column_mean_from(first: int) -> Observe:
    """Return one and the same function for each ``first``, since torch.compile tells functions apart by identity."""
    return partial(column_mean, first=first)


def column_mean(query: Tensor, key: Tensor, bias: Tensor | None, first: int = 0) -> Tensor:
    """Mean attention of the queries from ``first`` on to all M keys, B x M; holds the attention of 32 at a time."""
    queries = query.shape[2]
    key = key.detach().float().contiguous()  # once, not for each part
    total = torch.zeros(key.shape[0], key.shape[2], dtype=torch.float32, device=key.device)
    for start in range(first, queries, QUERIES_AT_ONCE):
        stop = min(start + QUERIES_AT_ONCE, queries)
        part = bias if bias is None else _queries(bias, start, stop)
        total += _softmax(query[:, :, start:stop], key, part).mean(1).sum(1)
    return total / (queries - first)


def window_attention(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Attention within each window, B x N x N with the windows of all images in B."""
    return _softmax(query, key, bias).mean(1)


def _queries(bias: Tensor, start: int, stop: int) -> Tensor:
    """Rows of a bias that may be one row for all queries."""
    return bias if bias.ndim < 2 or bias.shape[-2] == 1 else bias[..., start:stop, :]


@torch.no_grad()
def _softmax(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Attention weights B x H x N x M in float32, whatever the model computes in."""
    with torch.autocast(query.device.type, enabled=False):
        scores = (query.float() * query.shape[-1] ** -0.5) @ key.float().transpose(-2, -1)
        return (scores if bias is None else scores + bias.float()).softmax(-1)


def _merge_windows(
    attention: Tensor, *, grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> Tensor:
    """Mean over all cells of the attention each cell receives: B x (rows columns) from (B W) x N x N.

    Undoes the cyclic shift, padding and partition of ``SwinTransformerBlock``. Cells that only pad the grid are neither
    pooled, so their queries do not count, nor part of the result.
    """
    (rows, columns), (height, width) = (
        grid,
        (-(-grid[0] // window[0]) * window[0], -(-grid[1] // window[1]) * window[1]),
    )
    real = attention.new_zeros(1, height, width, 1)
    real[:, :rows, :columns] = 1
    real = window_partition(real, window).flatten(1)  # W N
    windows = attention.unflatten(0, (-1, real.shape[0]))  # B W N N
    received = (windows * real[:, :, None]).sum(2).flatten(0, 1)  # (B W) N
    merged = window_reverse(received.unflatten(1, window)[..., None], window, height, width)[:, :rows, :columns, 0]
    return merged.roll(shift, dims=(1, 2)).flatten(1) / (rows * columns)
