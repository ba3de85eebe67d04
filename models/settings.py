"""Settings of a network that no tensor shows: heads, activation, windows, what norms add to the variance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import nn

_ACTIVATIONS = {
    # Without underscores, as both configurations and classes spell them.
    "gelunew": "gelu_tanh",
    "gelufast": "gelu_tanh",
    "geluaccurate": "gelu_tanh",
    "gelupytorchtanh": "gelu_tanh",
    "gelutanh": "gelu_tanh",
    "gelupython": "gelu",
    "quickgelu": "quick_gelu",
    "swish": "silu",
    "leakyrelu": "leaky_relu",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
}
"""Spelling -> name in timm, where the two differ."""
DECODERS = ("decoder.", "pixel_decoder.")
"""How names of what is in a decoder begin."""
ALIKE = {"gelu", "gelu_tanh"}
"""Activations that differ by less than a thousandth."""
_CLIP = {"hidden_act": "quick_gelu", "num_attention_heads": 12, "layer_norm_eps": 1e-5}
_SIGLIP = {"hidden_act": "gelu_pytorch_tanh", "num_attention_heads": 12, "layer_norm_eps": 1e-6}
_VIT = {"hidden_act": "gelu", "num_attention_heads": 12, "layer_norm_eps": 1e-12}
_DINOV2 = _VIT | {"layer_norm_eps": 1e-6}
_SWIN = {
    "hidden_act": "gelu",
    "num_heads": [3, 6, 12, 24],
    "layer_norm_eps": 1e-5,
    "depths": [2, 2, 6, 2],
    "window_size": 7,
    "image_size": 224,
    "patch_size": 4,
}
_CONVNEXT = {"hidden_act": "gelu"}
DEFAULTS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("altclip", "chinese_clip", "clip", "clipseg", "metaclip_2"), _CLIP),
    **dict.fromkeys(("siglip", "siglip2"), _SIGLIP),
    **dict.fromkeys(("beit", "data2vec-vision", "deit", "vit", "vit_mae"), _VIT),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), _DINOV2),
    "dinov3_vit": {"hidden_act": "gelu", "num_attention_heads": 6, "layer_norm_eps": 1e-5},
    "swin": _SWIN,
    "swinv2": _SWIN | {"pretrained_window_sizes": [0, 0, 0, 0]},
    **dict.fromkeys(("convnext", "convnextv2"), _CONVNEXT),
}
"""Type of a model of transformers -> what its configuration means by leaving a key out."""


class Origin(NamedTuple):
    """Windows that the positions in a block are relative to (Swin v2)."""

    window: tuple[int, int]
    """Height and width in patches."""
    stated: bool
    """Whether they are those of pre-training; else they are the block's own."""


class Settings(NamedTuple):
    """What two networks must share beside their tensors; None where unknown.

    What may differ between blocks is listed from the first block on, as far as it is known.
    """

    heads: tuple[int, ...] | None = None
    """Heads of each attention."""
    activation: str | None = None
    """Activation of the first MLP, or the first one of a network without MLPs, by its name in timm."""
    norm_eps: float | None = None
    """What layer norms add to the variance."""
    windows: tuple[tuple[int, int], ...] | None = None
    """Height and width of each block's windows, in patches (Swin)."""
    origins: tuple[Origin, ...] | None = None
    """What the positions in each block are relative to (Swin v2)."""
    decoder_heads: int | None = None
    """Heads of attention in decoders, which only pre-training has."""


def settings_of(model: nn.Module) -> Settings:
    """Read the settings of a network, such as a timm model."""
    named = {name: module for name, module in model.named_modules() if name}
    heads = {name: found for name, module in named.items() if (found := _heads_of(module)) is not None}
    of_decoders = {name: found for name, found in heads.items() if name.startswith(DECODERS)}
    eps = next((module.eps for module in named.values() if isinstance(module, nn.LayerNorm)), None)
    # Blocks of BEiT have a `window_size` too, which is their grid.
    moved = [module for module in named.values() if hasattr(module, "window_size") and hasattr(module, "shift_size")]
    relative = [module for module in named.values() if hasattr(module, "pretrained_window_size")]
    return Settings(
        tuple(found for name, found in heads.items() if name not in of_decoders) or None,
        _activation_of(named.values()),
        eps,
        tuple(_pair(module.window_size) for module in moved) or None,
        tuple(_origin(_pair(module.pretrained_window_size), _pair(module.window_size)) for module in relative) or None,
        next(iter(of_decoders.values()), None),
    )


def _heads_of(module: nn.Module) -> int | None:
    heads = getattr(module, "num_heads", None)
    return heads if isinstance(heads, int) and any(hasattr(module, name) for name in ("qkv", "q_proj")) else None


def _activation_of(modules: Iterable[nn.Module]) -> str | None:
    modules = list(modules)
    of_mlps = [getattr(module, "act", None) for module in modules if hasattr(module, "fc1")]
    alone = [module for module in modules if type(module).__module__.endswith((".activation", ".activations"))]
    for module in [*of_mlps, *alone]:
        if isinstance(module, nn.GELU) and module.approximate == "tanh":
            return "gelu_tanh"
        if isinstance(module, nn.Module) and not any(True for _ in module.children()):
            return _activation(type(module).__name__)
    return None


def _activation(name: Any) -> str | None:
    plain = name.lower().replace("_", "") if isinstance(name, str) else ""
    return _ACTIVATIONS.get(plain, plain) or None


def settings_in_config(config: Mapping[str, Any]) -> Settings:
    """Read the settings that a ``config.json`` of the transformers library states, or means by stating none."""
    kind, inner = config.get("model_type"), config.get("vision_config")
    if isinstance(inner, Mapping):
        kind, config = inner.get("model_type", kind), inner
    config = {**DEFAULTS.get(str(kind).removesuffix("_vision_model"), {}), **config}
    eps = config.get("layer_norm_eps")
    return Settings(
        _by_block(config.get("num_attention_heads", config.get("num_heads")), config.get("depths")),
        # The gated networks of DINOv2 have an activation of their own, whatever `hidden_act` says.
        "silu" if config.get("use_swiglu_ffn") else _activation(config.get("hidden_act")),
        float(eps) if isinstance(eps, int | float) and not str(kind).startswith("convnext") else None,
        _windows_in(config),
        _origins_in(config),
    )


def settings_in_open_clip(config: Mapping[str, Any]) -> Settings:
    """Read the settings of the image tower in an ``open_clip_config.json``, with open_clip's own defaults.

    Towers of timm and ResNets are not read: timm knows the former by name, and the latter have no such settings.
    """
    model = config.get("model_cfg")
    vision = model.get("vision_cfg") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(vision, Mapping):
        return Settings()
    if vision.get("timm_model_name") or isinstance(vision.get("layers"), list):
        return Settings()
    of_act, of_norm = vision.get("act_kwargs") or {}, vision.get("norm_kwargs") or {}
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    if activation == "gelu" and of_act.get("approximate") == "tanh":
        activation = "gelu_tanh"
    width, of_head = vision.get("width", 768), vision.get("head_width", 64)
    heads = (width // of_head,) if isinstance(width, int) and isinstance(of_head, int) else None
    return Settings(heads, activation, of_norm.get("eps", 1e-5))


def _windows_in(config: Mapping[str, Any]) -> tuple[tuple[int, int], ...] | None:
    """Windows of a Swin, which are no larger than the grid of patches of their stage."""
    window, image, patch = (config.get(key) for key in ("window_size", "image_size", "patch_size"))
    depths = config.get("depths")
    if not (isinstance(window, int) and isinstance(image, int) and isinstance(patch, int) and isinstance(depths, list)):
        return None
    by_stage = [min(window, image // patch // 2**stage) for stage in range(len(depths))]
    return _pairs(_by_block(by_stage, depths))


def _origins_in(config: Mapping[str, Any]) -> tuple[Origin, ...] | None:
    stated = _pairs(_by_block(config.get("pretrained_window_sizes"), config.get("depths")))
    own = _windows_in(config)
    if stated is None or own is None:
        return None
    return tuple(_origin(*pair) for pair in zip(stated, own, strict=False))


def _origin(stated: tuple[int, int], own: tuple[int, int]) -> Origin:
    return Origin(stated, stated=True) if stated[0] > 0 else Origin(own, stated=False)


def _by_block(values: Any, depths: Any) -> tuple[int, ...] | None:
    """What a configuration says of stages, for each block; what it says once, once."""
    if isinstance(values, int):
        return (values,)
    if not isinstance(values, list) or not values or not all(isinstance(value, int) for value in values):
        return None
    if not isinstance(depths, list) or len(depths) != len(values):
        return (values[0],)
    return tuple(value for value, depth in zip(values, depths, strict=True) for _ in range(depth))


def _pairs(values: Iterable[int] | None) -> tuple[tuple[int, int], ...] | None:
    return None if values is None else tuple((value, value) for value in values)


def _pair(value: Any) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return int(height), int(width)
