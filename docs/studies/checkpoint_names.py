"""Weights of timm's models under the names of published files, for ``checkpoints.py``."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


def same(model: nn.Module) -> State:
    """Timm's own names."""
    return dict(model.state_dict())


def dinov2(model: nn.Module) -> State:
    """Meta's DINOv2: a mask token, registers after the class token, a row of positions for the class token."""
    state = same(model) | {"mask_token": torch.zeros(1, model.embed_dim)}
    if "reg_token" in state:
        state["register_tokens"] = state.pop("reg_token")
        row = torch.randn(1, 1, model.embed_dim, generator=torch.Generator().manual_seed(2))
        state["cls_token"] = state["cls_token"] - row
        state["pos_embed"] = torch.cat([row, state["pos_embed"]], dim=1)
    return state


def dinov2_giant(model: nn.Module) -> State:
    """The gated networks of DINOv2: ``w12`` and ``w3``."""
    renamed = {name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): w for name, w in same(model).items()}
    return renamed | {"mask_token": torch.zeros(1, model.embed_dim)}


def dinov3(model: nn.Module) -> State:
    """Meta's DINOv3: storage tokens, layer scales as modules, a bias of query, key and value in one."""
    state: State = {}
    for name, tensor in same(model).items():
        name = re.sub(r"gamma_([12])$", r"ls\1.gamma", name).replace("reg_token", "storage_tokens")
        state[name] = tensor
    for name in [name for name in state if name.endswith(".q_bias")]:
        query, value = state.pop(name), state.pop(name.replace("q_bias", "v_bias"))
        state[name.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
        state[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(3 * len(query))
    return state | {"mask_token": torch.zeros(1, model.embed_dim), "rope_embed.periods": torch.ones(4)}


def mae(model: nn.Module) -> State:
    """MAE pre-training: an encoder without a classifier beside a decoder."""
    state = {name: tensor for name, tensor in same(model).items() if not name.startswith("head")}
    return state | {"mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 17, 8)}


def beit_pretrained(model: nn.Module) -> State:
    """BEiT as published, with the indices of its windows."""
    state = same(model)
    index = torch.zeros(4, 4, dtype=torch.long)
    tables = [name for name in state if name.endswith("relative_position_bias_table")]
    return state | {name.replace("bias_table", "index"): index for name in tables}


def eva02(model: nn.Module) -> State:
    """EVA-02: ``w1``, ``w2`` and ``w3`` of gated networks, norms inside them."""
    names = (("mlp.norm", "mlp.ffn_ln"), ("mlp.fc1_g", "mlp.w1"), ("mlp.fc1_x", "mlp.w2"), ("mlp.fc2", "mlp.w3"))
    state = {}
    for name, tensor in same(model).items():
        for ours, theirs in names:
            name = name.replace(ours, theirs)
        state[name.replace("q_proj.bias", "q_bias").replace("v_proj.bias", "v_bias")] = tensor
    return state


def deit3(model: nn.Module) -> State:
    """DeiT III: layer scales named ``gamma_1``."""
    return {re.sub(r"ls([12])\.gamma", r"gamma_\1", name): tensor for name, tensor in same(model).items()}


def swin(model: nn.Module) -> State:
    """Microsoft's Swin: stages end in their merging, and the masks of shifted windows are stored."""
    state = {}
    for name, tensor in same(model).items():
        name = re.sub(r"layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name)
        state[name.replace("head.fc.", "head.")] = tensor
    return state | {"layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16)}


def openai_clip(model: nn.Module) -> State:
    """OpenAI's CLIP tower inside the whole model."""
    state = {}
    swaps = (
        (r"^patch_embed\.proj\.", "conv1."),
        (r"^pos_embed$", "positional_embedding"),
        (r"^cls_token$", "class_embedding"),
        (r"^norm_pre\.", "ln_pre."),
        (r"^norm\.", "ln_post."),
        (r"^blocks\.", "transformer.resblocks."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"attn\.qkv\.", "attn.in_proj_"),
        (r"attn\.proj\.", "attn.out_proj."),
        (r"mlp\.fc1\.", "mlp.c_fc."),
        (r"mlp\.fc2\.", "mlp.c_proj."),
    )
    for name, tensor in same(model).items():
        for pattern, theirs in swaps:
            name = re.sub(pattern, theirs, name)
        state[f"visual.{name}"] = tensor
    state["visual.class_embedding"] = state["visual.class_embedding"][0, 0]
    state["visual.positional_embedding"] = state["visual.positional_embedding"][0]
    return state | {
        "visual.proj": torch.ones(48, 24),
        "logit_scale": torch.ones(()),
        "text_projection": torch.ones(3, 3),
    }


def open_clip(model: nn.Module) -> State:
    """OpenCLIP's tower of a timm model inside the whole model."""
    return {f"visual.trunk.{name}": tensor for name, tensor in same(model).items()} | {
        "visual.head.proj.weight": torch.randn(24, 48),
        "logit_scale": torch.ones(()),
    }


def moco(model: nn.Module) -> State:
    """MoCo v3: two encoders in one flat state dict; the averaged one is taken."""
    state = same(model)
    return {f"module.base_encoder.{name}": tensor + 1 for name, tensor in state.items()} | {
        f"module.momentum_encoder.{name}": tensor for name, tensor in state.items()
    }


def convnext(model: nn.Module) -> State:
    """Meta's ConvNeXt."""
    state = {}
    swaps = (
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm\.", "norm."),
        (r"^head\.fc\.", "head."),
    )
    for name, tensor in same(model).items():
        for pattern, theirs in swaps:
            name = re.sub(pattern, theirs, name)
        state[name] = tensor
    return state
