"""What stands before a classifier: how a network, or the weights in a file, make one vector of an image's tokens."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def pooling_of_names(names: Iterable[str]) -> str | None:
    """Pooling that weights were trained with, as their names tell; None where several are possible.

    Args:
        names: Names as timm has them.
    """
    listed = set(names)
    if any(name.startswith("attn_pool.") for name in listed):
        return "map"
    if "fc_norm.weight" in listed:
        return "avg"
    return None


def pooling_of(model: nn.Module) -> str | None:
    """Pooling of a timm model of tokens, such as ``token`` or ``avg``; None for other networks."""
    pooling = getattr(model, "global_pool", None)
    return pooling if isinstance(pooling, str) and pooling else None


def last_norms(model: nn.Module) -> tuple[str, ...]:
    """Names of the norms between a model's last block and its classifier."""
    names = ("norm", "fc_norm", "head.norm", "attn_pool.norm")
    modules = dict(model.named_modules())
    return tuple(name for name in names if name in modules and any(True for _ in modules[name].parameters()))


POOLING_WORDS = {"token": "the class token", "avg": "the mean of the patches", "map": "attention pooling"}
"""Pooling in words, by timm's names."""
