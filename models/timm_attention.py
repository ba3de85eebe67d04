"""Installing ``models.attention`` into timm's models and our own, and the receipt of what computes their attention."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from models.attention import BACKENDS, AttentionModule, choose_backend
from models.routed_attention import ROUTED, timm_class


@dataclass(frozen=True)
class AttentionUse:
    """One kind of attention call that a model makes, and what computes it."""

    attention_class: str
    modules: int
    head_dim: int
    has_bias: bool
    backend: str
    refused: dict[str, str]
    """Backend to why it does not run: for ``auto`` alone, which would have preferred it."""


@dataclass(frozen=True)
class AttentionReceipt:
    """Which attention of a model is routed, which is not, and what computes it."""

    asked: str
    """Backend asked for: ``auto`` or a name."""
    installed: dict[str, int]
    """timm's attention class to the number of its modules that were routed; empty for a model without attention."""
    kept: dict[str, str]
    """Attention class to why its modules keep the computation of their own."""
    uses: tuple[AttentionUse, ...] = ()
    """Filled in by ``decided``."""

    def decided(
        self, model: nn.Module, *, device: torch.device, dtype: torch.dtype, training: bool, compiled: bool = False
    ) -> AttentionReceipt:
        """Add what computes each kind of attention of the model on a device.

        The decision is the pure function of the call that ``attention`` itself follows, so nothing need be recorded
        while the model runs.

        Args:
            model: What ``install_attention`` was given.
            device: Where the model will run; the model itself may be elsewhere, even on meta.
            dtype: What the model computes in: that of autocast, or of its weights.
            training: Whether gradients and attention dropout are needed.
            compiled: Whether the model runs under ``torch.compile``.

        Raises:
            ValueError: The backend asked for by name cannot run there.
        """
        calls = Counter(
            (timm_class(module).__name__, module.expected_call(device, dtype, training=training, compiled=compiled))
            for module in model.modules()
            if isinstance(module, AttentionModule)
        )
        uses = []
        for (attention_class, call), modules in calls.items():
            choice = choose_backend(call, self.asked)
            uses.append(
                AttentionUse(attention_class, modules, call.head_dim, call.has_bias, choice.backend, choice.refused)
            )
        return replace(self, uses=tuple(uses))


def install_attention(model: nn.Module, backend: str = "auto") -> AttentionReceipt:
    """Route every attention of a model through ``models.attention.attention``, in place.

    Supported are modules of ours (``AttentionModule``), and timm's ``Attention`` (ViT, DeiT, DINOv2),
    ``AttentionRope``, ``EvaAttention`` (EVA, DINOv3) and Swin's ``WindowAttention``. Installing again changes the
    backend. A compiled model must be installed before it is compiled.

    Args:
        model: Any network; may live on the meta device.
        backend: ``auto`` leaves other attention classes as they are and says so in the receipt; a backend by name must
            hold for the whole model.

    Raises:
        ValueError: The backend is unknown, or it is named and the model has attention that cannot be routed. The model
            is unchanged then.
    """
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"attention backend {backend!r} is unknown; it is auto, {', '.join(BACKENDS)}")
    routed = [module for module in model.modules() if timm_class(module) in ROUTED]
    others = sorted({type(module).__name__ for module in _other_attention(model)})
    samplers = {type(module).__name__: reason for module in model.modules() if (reason := _has_no_scores(module))}
    if others and backend != "auto":
        supported = ", ".join(known.__name__ for known in ROUTED)
        raise ValueError(
            f"attention backend {backend!r} cannot be set for {type(model).__name__}: {' and '.join(others)} cannot be "
            f"routed, only timm's {supported} can; take `auto`, which leaves other classes as they are"
        )
    for module in routed:
        module.__class__ = ROUTED[timm_class(module)]
    ours = [module for module in model.modules() if isinstance(module, AttentionModule)]
    for module in ours:
        module.backend = backend
    installed = Counter(timm_class(module).__name__ for module in ours)
    kept = dict.fromkeys(others, "cannot be routed; it keeps its own computation")
    return AttentionReceipt(backend, dict(installed), kept | samplers)


def _has_no_scores(module: nn.Module) -> str:
    """Why a module that is called attention has no scores of queries and keys, for any backend to compute."""
    return str(getattr(module, "no_scores", ""))


def _other_attention(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the innermost modules that compute attention and cannot be routed.

    timm marks most by the flag ``fused_attn``; the rest is known by name.
    """

    def is_attention(module: nn.Module) -> bool:
        return hasattr(module, "fused_attn") or re.search("Attention|Attn|XCA", type(module).__name__) is not None

    for module in model.modules():
        within = (inner for inner in module.modules() if inner is not module)
        known = timm_class(module) in ROUTED or isinstance(module, AttentionModule) or _has_no_scores(module)
        if not known and is_attention(module) and not any(map(is_attention, within)):
            yield module
