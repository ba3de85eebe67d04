"""Settings of a transformer that no tensor shows: heads of attention, activation, what norms add to the variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "quickgelu": "quick_gelu",
    "geluquick": "quick_gelu",
    "gelutanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}
ALIKE = {"gelu", "gelu_tanh"}
"""Activations that differ by less than a thousandth."""


class Settings(NamedTuple):
    """What two networks must share beside their tensors; None where unknown."""

    heads: int | None = None
    """Heads of the first attention."""
    activation: str | None = None
    """Activation of the first MLP, by its name in timm."""
    norm_eps: float | None = None
    """What norms add to the variance."""


def settings_of(model: nn.Module) -> Settings:
    """Read the settings of a network, such as a timm model."""
    heads = activation = eps = None
    for module in model.modules():
        found = getattr(module, "num_heads", None)
        if heads is None and isinstance(found, int) and any(hasattr(module, name) for name in ("qkv", "q_proj")):
            heads = found
        act = getattr(module, "act", None)
        if activation is None and isinstance(act, nn.Module) and hasattr(module, "fc1"):
            approximate = isinstance(act, nn.GELU) and act.approximate == "tanh"
            activation = "gelu_tanh" if approximate else _ACTIVATIONS.get(type(act).__name__.lower())
        if eps is None and isinstance(module, nn.LayerNorm):
            eps = module.eps
    return Settings(heads, activation, eps)


def settings_in_config(config: Mapping[str, Any]) -> Settings:
    """Read the settings that a ``config.json`` of the transformers library states."""
    inner = config.get("vision_config")
    config = inner if isinstance(inner, Mapping) else config
    heads = config.get("num_attention_heads", config.get("num_heads"))
    if isinstance(heads, list) and heads:
        heads = heads[0]
    # The gated networks of DINOv2 have an activation of their own, whatever `hidden_act` says.
    activation = "silu" if config.get("use_swiglu_ffn") else config.get("hidden_act")
    eps = config.get("layer_norm_eps")
    return Settings(
        heads if isinstance(heads, int) else None,
        _ACTIVATIONS.get(activation) if isinstance(activation, str) else None,
        float(eps) if isinstance(eps, int | float) else None,
    )
