"""Names of the transformers library's vision models, brought to those that timm and the official files use.

Both forms are known: what ``save_pretrained`` writes, and what ``state_dict`` of a model in memory says since version
5. Query, key and value are joined. What is resized, and how the official names become timm's, is left to timm.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

_PATCHES = re.compile(r"(^|\.)embeddings\.patch_embeddings?\.(projection\.)?weight$")
_MODELS = (
    r"(?:(?:base_model|model|vision_model|vision_tower|vit|deit|beit|data2vec_vision|swin|swinv2|dinov2|"
    r"dinov2_with_registers|dinov3_vit|clip|siglip|convnext|convnextv2)\.)+"
)
_ROOTS = re.compile(rf"^{_MODELS}(?=.)")
_LAST_ROOTS = re.compile(rf"(?:^|(?<=\.)){_MODELS}$")
_OUTSIDE = (
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.(position_embeddings|position_embedding\.weight)$", "pos_embed"),
    (r"^embeddings\.patch_embeddings?\.(?:projection\.)?(weight|bias)$", r"patch_embed.proj.\1"),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (
        r"^(?:encoder\.)?(?:shared_position_bias|relative_position_bias)\.(?=relative_position_bias_table$)",
        "rel_pos_bias.",
    ),
    (r"^(?:encoder\.)?layers\.(\d+)\.(?=blocks\.|downsample\.)", r"layers.\1."),  # Swin
    (r"^(?:encoder\.)?layers?\.(\d+)\.(?!blocks\.|downsample\.)", r"blocks.\1."),
    (r"^decoder\.(?=mask_token$|decoder_)", ""),  # MAE
    (r"^(?:layernorm|post_layernorm)\.", "norm."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^pooler\.layernorm\.", "fc_norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
    (r"^(?:cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
)
_BLOCK = re.compile(r"^((?:layers\.\d+\.)?blocks\.\d+\.)(.+)$")
_INSIDE = (
    (r"^(?:layernorm_before|layer_norm1)\.", "norm1."),
    (r"^(?:layernorm_after|layer_norm2)\.", "norm2."),
    (r"^(?:attention\.attention|attention\.self|attention|self_attn)\.(?:query|q_proj)\.", "attn.q."),
    (r"^(?:attention\.attention|attention\.self|attention|self_attn)\.(?:key|k_proj)\.", "attn.k."),
    (r"^(?:attention\.attention|attention\.self|attention|self_attn)\.(?:value|v_proj)\.", "attn.v."),
    (r"^(?:attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", "attn.proj."),
    (r"^(?:.+\.)?relative_position_bias_table$", "attn.relative_position_bias_table"),
    (r"^attention\.self\.logit_scale$", "attn.logit_scale"),
    (r"^attention\.self\.continuous_position_bias_mlp\.", "attn.cpb_mlp."),
    (r"^(?:intermediate\.dense)\.", "mlp.fc1."),
    (r"^output\.dense\.", "mlp.fc2."),
    (r"^mlp\.weights_in\.", "mlp.w12."),
    (r"^mlp\.weights_out\.", "mlp.w3."),
    (r"^layer_scale([12])\.lambda1$", r"ls\1.gamma"),
    (r"^lambda_([12])$", r"gamma_\1"),
)
_CONVNEXT = (
    (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."),
    (r"^encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"(?<=\d\.)dwconv\.", "conv_dw."),
    (r"(?<=\d\.)layernorm\.", "norm."),
    (r"(?<=\d\.)pwconv([12])\.", r"mlp.fc\1."),
    (r"(?<=\d\.)grn\.", "mlp.grn."),
    (r"(?<=\d\.)layer_scale_parameter$", "gamma"),
    (r"^layernorm\.", "head.norm."),
    (r"^classifier\.", "head.fc."),
)


def is_transformers(names: Mapping[str, Tensor]) -> bool:
    """Whether weights bear the names of a vision model of the transformers library."""
    return any(_PATCHES.search(name) for name in names)


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of a transformers vision model; a pure function.

    Knows ViT, ViT-MAE, DeiT, DINOv2 with and without registers, DINOv3, Swin v1 and v2, BEiT, CLIP and SigLIP towers
    and ConvNeXt. Classifiers that read something else than one pooled token stay under their own name, so that no other
    network takes them for its own: those of DINOv2 (class token beside mean) and CLIP (mean before the last norm).

    Args:
        state: Weights by name, with or without the prefix of the model inside (``vit.``, ``vision_model.``), and with
            or without that of a module around it (``net.vit.``).

    Returns:
        Weights by the names of the official files of the family, where it has some, else by timm's.

    Raises:
        ValueError: There are several networks.
    """
    lead = _lead(state)
    plain = {_ROOTS.sub("", name.removeprefix(lead)): tensor for name, tensor in state.items()}
    if len(plain) < len(state):
        raise ValueError("it holds several networks of the same names; name one with model.checkpoint_key")
    if any(name.startswith("encoder.stages.") for name in plain):
        return {_replace(name, _CONVNEXT): _grn(name, tensor) for name, tensor in plain.items()}
    named = {_rename(name): tensor for name, tensor in plain.items()}
    named = _join_attention(_own_shapes(named))
    if _keeps_classifier(named):
        named = {re.sub(r"^head\.(?=weight$|bias$)", "classifier.", name): tensor for name, tensor in named.items()}
    return _gated(_registers(named))


def _lead(state: Mapping[str, Tensor]) -> str:
    """What a module around the model puts before its names, such as ``net.`` of ``net.vit.embeddings``."""
    places = [name[: found.start()] for name in state if (found := _PATCHES.search(name))]
    leads = sorted({_LAST_ROOTS.sub("", f"{place}." if place else "") for place in places})
    if len(leads) > 1:
        named = ", ".join(f"`{lead.rstrip('.')}`" if lead else "the top level" for lead in leads)
        raise ValueError(f"it holds several networks, below {named}; name one with model.checkpoint_key")
    return leads[0]


def _replace(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _rename(name: str) -> str:
    name = _replace(name, _OUTSIDE)
    block = _BLOCK.match(name)
    return name if block is None else block[1] + _replace(block[2], _INSIDE)


def _grn(name: str, tensor: Tensor) -> Tensor:
    return tensor.reshape(-1) if ".grn." in name else tensor


def _own_shapes(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give tables and tokens the leading dimension of a batch; split what the pooling of SigLIP joins."""
    shaped = dict(named)
    if "cls_token" in named:
        shaped["cls_token"] = named["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in named and named["pos_embed"].ndim == 2:
        shaped["pos_embed"] = named["pos_embed"][None]
    kernel = named.get("patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 2:
        # SigLIP 2 flattens a patch with its channels last.
        side = round((kernel.shape[1] // 3) ** 0.5)
        shaped["patch_embed.proj.weight"] = kernel.reshape(-1, side, side, 3).permute(0, 3, 1, 2)
    for kind in ("weight", "bias"):
        joined = shaped.pop(f"head.attention.in_proj_{kind}", None)
        if joined is not None:
            width = joined.shape[0] // 3
            shaped[f"attn_pool.q.{kind}"], shaped[f"attn_pool.kv.{kind}"] = joined[:width], joined[width:]
    return shaped


def _join_attention(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """One matrix and bias for query, key and value; biases stay apart where keys have none (BEiT, Swin v2, DINOv3)."""
    joined: dict[str, Tensor] = {}
    parts: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in named.items():
        match = re.match(r"^(.*\bblocks\.\d+\.attn)\.([qkv])\.(weight|bias)$", name)
        if match is None:
            joined[name] = tensor
        else:
            parts[match[1], match[3]][match[2]] = tensor
    for (attention, kind), found in parts.items():
        if found.keys() >= {"q", "k", "v"}:
            joined[f"{attention}.qkv.{kind}"] = torch.cat([found["q"], found["k"], found["v"]])
        else:
            joined |= {f"{attention}.{part}_{kind}": tensor for part, tensor in found.items()}
    return joined


def _keeps_classifier(named: Mapping[str, Tensor]) -> bool:
    classifier, patches = named.get("head.weight"), named.get("patch_embed.proj.weight")
    if classifier is None or patches is None:
        return False
    return classifier.shape[-1] != patches.shape[0] * _growth(named) or "norm_pre.weight" in named


def _growth(named: Mapping[str, Tensor]) -> int:
    """How much wider the last tokens are than the first: Swin doubles them between stages."""
    norm, patches = named.get("norm.weight"), named.get("patch_embed.proj.weight")
    return 1 if norm is None or patches is None else norm.shape[0] // patches.shape[0]


def _registers(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv3 has rotary positions and other names for its registers than DINOv2, which timm tells them apart by."""
    if "register_tokens" not in named or "pos_embed" in named:
        return named
    return {"storage_tokens" if name == "register_tokens" else name: tensor for name, tensor in named.items()}


def _gated(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official names of gated networks: ``w12`` and ``w3`` in DINOv2, ``w1``, ``w2`` and ``w3`` in DINOv3."""
    renamed: dict[str, Tensor] = {}
    gated = any(".mlp.gate_proj." in name for name in named)
    packed = gated and "pos_embed" in named
    for name, tensor in named.items():
        if packed and ".mlp.gate_proj." in name:
            upper = named[name.replace("gate_proj", "up_proj")]
            renamed[name.replace("gate_proj", "w12")] = torch.cat([tensor, upper])
        elif not (packed and ".mlp.up_proj." in name):
            down, up = ("w3", "w2") if gated else ("fc2", "fc1")
            for theirs, ours in (("gate_proj", "w1"), ("up_proj", up), ("down_proj", down)):
                name = name.replace(f".mlp.{theirs}.", f".mlp.{ours}.")
            renamed[name] = tensor
    return renamed
