"""timm's attention modules with their attention computed by ``models.attention.attention``.

Each supported class of timm has a subclass here whose ``forward`` differs in that one step. Parameters and buffers are
timm's own, so a module that is already there becomes a routed one by changing its class.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.layers import apply_rot_embed_cat
from timm.layers.attention import Attention, AttentionRope
from timm.models.eva import EvaAttention
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn
from torch.nn import functional

from models.attention import AttentionModule, additive_bias, attention

Observe = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""Reads something off (query, key, bias), all ``B H N D`` with the heads of the query, as they enter the softmax."""


class RoutedAttention(AttentionModule):
    """What the routed forms of timm's attention modules share."""

    observe: Observe | None = None
    """Called on the next forward passes; for ``models.attention_row``, which sets it for the length of one pass."""
    observed: Tensor | None = None

    attn_drop: nn.Dropout
    num_heads: int
    proj: nn.Linear
    proj_drop: nn.Dropout

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.proj.in_features // self.num_heads

    @property
    def weight_dropout(self) -> float:  # type: ignore[override]
        """That of timm's dropout layer."""
        return self.attn_drop.p

    def route(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Attend, and bring the heads together again: B H N D to B N (H D)."""
        if self.observe is not None:
            self.observed = self.observe(query, key, bias)
        dropout = self.weight_dropout if self.training else 0.0
        return attention(query, key, value, bias, dropout, self.backend).transpose(1, 2).flatten(2)


class _RoutedTokens(RoutedAttention):
    """Attention over all tokens: what follows it is the same in timm's three classes."""

    gate: nn.Linear | None
    norm: nn.Module

    def attend(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        attended = self.norm(self.route(query, key, value, _bias(query, attn_mask, is_causal)))
        if self.gate is not None:
            attended = attended * self.gate(x).sigmoid()
        projected: Tensor = self.proj_drop(self.proj(attended))
        return projected


class RoutedVitAttention(_RoutedTokens, Attention):
    """Attention of ViT, DeiT and DINOv2."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Attend among x, B N C."""
        query, key, value = _split(self.qkv(x), self.num_heads)
        return self.attend(x, self.q_norm(query), self.k_norm(key), value, attn_mask, is_causal)


class _RoutedRotary(_RoutedTokens):
    """Attention with rotary position embeddings, its projections fused or separate."""

    q_norm: nn.Module
    k_norm: nn.Module
    num_prefix_tokens: int
    rotate_half: bool

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        query, key, value = self.project(x)
        query, key = self.q_norm(query), self.k_norm(key)
        if rope is not None:
            query, key = self._rotate(query, rope).type_as(value), self._rotate(key, rope).type_as(value)
        groups = query.shape[1] // key.shape[1]
        if groups > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        return self.attend(x, query, key, value, attn_mask, is_causal)

    def _rotate(self, heads: Tensor, rope: Tensor) -> Tensor:
        """Rotate patch tokens; class and register tokens have no position."""
        prefix, patches = heads[:, :, : self.num_prefix_tokens], heads[:, :, self.num_prefix_tokens :]
        return torch.cat([prefix, apply_rot_embed_cat(patches, rope, half=self.rotate_half)], dim=2)


class RoutedRopeAttention(_RoutedRotary, AttentionRope):
    """Attention of timm's own rotary ViTs, with fewer heads for key and value where asked for."""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project x, B N C, to query, key and value, each B H N D."""
        if self.qkv is not None:
            return _split(self.qkv(x), self.num_heads)
        key, value = _heads(self.k_proj(x), self.num_kv_heads), _heads(self.v_proj(x), self.num_kv_heads)
        return _heads(self.q_proj(x), self.num_heads), key, value


class RoutedEvaAttention(_RoutedRotary, EvaAttention):
    """Attention of EVA, EVA-02 and DINOv3, whose keys have no learned bias."""

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project x, B N C, to query, key and value, each B H N D."""
        if self.qkv is None:
            key, value = _heads(self.k_proj(x), self.num_heads), _heads(self.v_proj(x), self.num_heads)
            return _heads(self.q_proj(x), self.num_heads), key, value
        bias = None
        if self.q_bias is not None and self.k_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, self.k_bias, self.v_bias])
        if bias is not None and self.qkv_bias_separate:
            projected = self.qkv(x)
            return _split(projected + bias.type_as(projected), self.num_heads)
        return _split(functional.linear(x, self.qkv.weight, bias), self.num_heads)


class RoutedWindowAttention(RoutedAttention, WindowAttention):
    """Attention of Swin: within windows, with a relative position bias that learns."""

    has_bias = True

    @property
    def learns_bias(self) -> bool:
        """Whether the table of biases is trained."""
        return self.relative_position_bias_table.requires_grad

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within windows, x (B W) N C; the mask, W N N, is added to the scores."""
        bias: Tensor = self._get_rel_pos_bias()  # 1 H N N
        if mask is not None:
            # x holds the windows of one image after another; the mask, W N N, tells windows apart.
            bias = (bias + mask[:, None]).repeat(x.shape[0] // mask.shape[0], 1, 1, 1)
        attended = self.route(*_split(self.qkv(x), self.num_heads), bias)
        projected: Tensor = self.proj_drop(self.proj(attended))
        return projected


def _heads(projected: Tensor, heads: int) -> Tensor:
    """B N (H D) to B H N D."""
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def _split(projected: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """B N (3 H D) to query, key and value, each B H N D; views, no copies."""
    query, key, value = (_heads(part, heads) for part in projected.chunk(3, dim=-1))
    return query, key, value


def _bias(query: Tensor, attn_mask: Tensor | None, is_causal: bool) -> Tensor | None:
    """Make one additive bias of what timm passes; ``is_causal`` goes before the mask, as in timm."""
    if is_causal:
        tokens = query.shape[2]
        return additive_bias(torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril(), query.dtype)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        return additive_bias(attn_mask, query.dtype)
    return attn_mask


ROUTED: dict[type[nn.Module], type[RoutedAttention]] = {
    Attention: RoutedVitAttention,
    AttentionRope: RoutedRopeAttention,
    EvaAttention: RoutedEvaAttention,
    WindowAttention: RoutedWindowAttention,
}
"""timm's attention classes that can be routed, and their routed forms."""


def timm_class(module: nn.Module) -> type[nn.Module]:
    """Return the class a module had before it was routed."""
    return next((known for known, routed in ROUTED.items() if type(module) is routed), type(module))
