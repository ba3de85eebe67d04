"""What stands before a classifier: how a network, or the weights in a file, make one vector of an image's tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
    """Pooling of a timm model, such as ``token``, ``avg`` or ``max``; None where it has none that timm names."""
    # A head that pools holds the pooling in use; what the model itself says beside it may be out of date.
    for owner in (getattr(model, "head", None), model):
        pooling = getattr(owner, "global_pool", None)
        if found := pooling_named(getattr(pooling, "pool_type", pooling)):
            return found
    return None


def pooling_named(name: Any) -> str | None:
    """A name of timm's for pooling; those of faster versions are the same pooling."""
    if not isinstance(name, str) or not name:
        return None
    return name.lower().removeprefix("fast") or "avg"


def last_norms(model: nn.Module) -> tuple[str, ...]:
    """Names of the norms between a model's last block and its classifier."""
    names = ("norm", "fc_norm", "head.norm", "attn_pool.norm")
    modules = dict(model.named_modules())
    return tuple(name for name in names if name in modules and any(True for _ in modules[name].parameters()))


POOLING_WORDS = {"token": "the class token", "avg": "the mean of the patches", "map": "attention pooling"}
"""Pooling of tokens in words, by timm's names."""
