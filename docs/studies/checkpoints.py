"""Every layout of weights that was tried, with the largest difference to the library that it comes from.

Run ``python docs/studies/checkpoints.py`` for the table of ``docs/checkpoints.md``. Weights are random, under the names
that the published files have, in networks of a few small blocks; ``tests/checkpoints/test_layouts.py`` runs the same.
"""

from __future__ import annotations

import logging
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.vit import adapt_published, build_model, head_names
from vision_train.checkpoints import load_weights

TABLE = Path(__file__).parents[1] / "checkpoints.md"
State = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One layout of weights and the network that it is loaded into."""

    title: str
    """What the file is."""
    library: str
    """Whose computation is the reference."""
    model: str
    """timm's name of the target."""
    args: dict[str, Any]
    """Arguments of the target, and of the reference where that is timm's."""
    published: Callable[[nn.Module], State] | None = None
    """timm's own weights under the published names; None where transformers saves them."""
    reference: Callable[[], tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]] | None = None
    """A model of transformers, and its features or logits."""
    features: Callable[[nn.Module, Tensor], Tensor] = field(default=lambda model, images: model(images))
    """What of the target is compared with the reference."""
    sizes: tuple[int, int] = (32, 48)
    """Native image size, and another; the same where there is no other."""
    prefix: str = ""
    """Prefix that timm has no conversion for; the reference is its model with the prefix taken off."""
    container: str = ""
    """Container that the published file keeps its weights in."""
    saved: Literal["folder", "shards", "state dict"] = "folder"
    """How a model of transformers is saved."""


def difference(layout: Layout, folder: Path, size: int) -> float:
    """Largest difference between the loaded target and the reference, on two images of a size."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        if layout.reference is not None:
            return _to_transformers(layout, folder, images)
        return _to_timm(layout, folder, images)


def _to_transformers(layout: Layout, folder: Path, images: Tensor) -> float:
    assert layout.reference is not None
    theirs, compute = layout.reference()
    randomise(theirs)
    theirs.eval()
    path = folder / "w.pth" if layout.saved == "state dict" else folder
    if layout.saved == "state dict":
        torch.save(theirs.state_dict(), path)
    else:
        theirs.save_pretrained(folder, max_shard_size="30KB" if layout.saved == "shards" else "1GB")
    ours = build(layout, images.shape[-1])
    load_weights(ours, path, adapt=adapt_published, heads=head_names(ours))
    return (compute(theirs, images) - layout.features(ours, images)).abs().max().item()


def _to_timm(layout: Layout, folder: Path, images: Tensor) -> float:
    assert layout.published is not None
    native = build(layout, layout.sizes[0])
    randomise(native)
    state = layout.published(native)
    torch.save({layout.container: state} if layout.container else state, folder / "w.pth")
    ours, theirs = build(layout, images.shape[-1]), build(layout, images.shape[-1])
    load_weights(ours, folder / "w.pth", adapt=adapt_published, heads=head_names(ours))
    inside = {name: tensor for name, tensor in state.items() if name.startswith(layout.prefix)}
    given = _timm_filter(theirs)({name.removeprefix(layout.prefix): w for name, w in inside.items()}, theirs)
    result = theirs.load_state_dict(given, strict=False)
    absent = [name for name in result.missing_keys if not name.startswith(("head", "fc_norm"))]
    assert not absent, absent
    return (layout.features(theirs, images) - layout.features(ours, images)).abs().max().item()


def _timm_filter(model: nn.Module) -> Callable[[State, nn.Module], State]:
    convert = sys.modules[type(model).__module__].checkpoint_filter_fn
    deit = "deit" in str(model.pretrained_cfg.get("architecture", ""))
    return partial(convert, adapt_layer_scale=True) if deit else convert


def build(layout: Layout, size: int) -> nn.Module:
    """The target for images of a size, in evaluation mode."""
    args = dict(layout.args)
    return build_model(layout.model, num_classes=args.pop("num_classes"), image_size=size, **args).eval()


def randomise(model: nn.Module) -> None:
    """Draw all parameters, so that nothing passes by luck; norms and scales stay near 1."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        near = (
            1.0
            if re.search(r"norm\d?\.weight|layernorm\w*\.weight|lambda|gamma|layer_scale|logit_scale", name)
            else 0.0
        )
        values = torch.randn(parameter.shape, generator=generator) * (0.1 if parameter.ndim > 1 else 0.05)
        parameter.data.copy_(near + values)


# --- names of published files --------------------------------------------------------------------------------------


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


# --- models of transformers ----------------------------------------------------------------------------------------

SMALL = {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
THEIRS = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}


def _model(name: str, config: str, **settings: Any) -> nn.Module:
    import transformers

    transformers.logging.set_verbosity_error()
    inner = settings.pop("vision_config", None)
    stated = (
        {"intermediate_size": 96} | THEIRS if "embed_dim" not in settings and "hidden_sizes" not in settings else {}
    )
    if "mlp_ratio" in settings:
        del stated["intermediate_size"]
    made = getattr(transformers, config)(vision_config=THEIRS | inner) if inner else getattr(transformers, config)
    return getattr(transformers, name)(made if inner else made(**stated | settings))


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits of a model of transformers."""
    return model(images).logits


def tokens(model: nn.Module, images: Tensor) -> Tensor:
    """Tokens after the last norm, of a model of transformers."""
    return model(images).last_hidden_state


def pooled(model: nn.Module, images: Tensor) -> Tensor:
    """What a tower of transformers makes of an image."""
    return model(images).pooler_output


def unmasked(model: nn.Module, images: Tensor) -> Tensor:
    """Tokens of a masked autoencoder that hides nothing, in their order."""
    noise = torch.arange(16.0).expand(len(images), -1)
    return model.vit(images, noise=noise).last_hidden_state


def features(model: nn.Module, images: Tensor) -> Tensor:
    """Tokens after the last norm, of a model of timm."""
    return model.forward_features(images)


def theirs(
    name: str, config: str, compute: Callable[[nn.Module, Tensor], Tensor], **settings: Any
) -> Callable[[], tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]]:
    """A model of transformers, built when it is wanted."""
    return lambda: (_model(name, config, **settings), compute)


# --- all layouts ---------------------------------------------------------------------------------------------------

_WINDOWS = {"patch_size": 2, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "num_classes": 3}
_THEIR_WINDOWS = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
    "num_labels": 3,
}
_NARROW = SMALL | {"mlp_ratio": 2.0}
_CLASSES = _NARROW | {"num_classes": 3}
_BODY = _NARROW | {"num_classes": 0}
_EPS = {"norm_eps": 1e-12}  # what their ViT, DeiT and BEiT add to the variance
_STAGES = {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64), "num_classes": 3}


def _timm(title: str, model: str, args: dict[str, Any], published: Callable[[nn.Module], State], **more: Any) -> Layout:
    return Layout(title, "timm", model, args, published, **more)


def _transformers(title: str, model: str, args: dict[str, Any], reference: Any, **more: Any) -> Layout:
    return Layout(title, "transformers", model, args, reference=reference, sizes=(32, 32), **more)


LAYOUTS = (
    _timm("DINO v1 backbone", "vit_small_patch16_224", _BODY, same),
    _timm("DINO v1, teacher beside student", "vit_small_patch16_224", _BODY, same, container="teacher"),
    _timm("DINOv2", "vit_small_patch14_dinov2", _BODY, dinov2),
    _timm("DINOv2 with registers", "vit_small_patch14_reg4_dinov2", _BODY, dinov2),
    _timm("DINOv2 giant (`w12`, `w3`)", "vit_giant_patch14_dinov2", SMALL | {"num_classes": 0}, dinov2_giant),
    _timm("DINOv3", "vit_small_patch16_dinov3_qkvb", _BODY, dinov3),
    _timm("MAE pre-trained", "vit_base_patch16_224", _BODY, mae, container="model"),
    _timm(
        "MAE fine-tuned (mean of patches)",
        "vit_base_patch16_224",
        _CLASSES | {"global_pool": "avg", "fc_norm": True},
        same,
        container="model",
    ),
    _timm("MoCo v3", "vit_base_patch16_224", _CLASSES, moco, container="state_dict", prefix="module.momentum_encoder."),
    _timm("DeiT", "deit_small_patch16_224", _CLASSES, same, container="model"),
    _timm("DeiT distilled", "deit_small_distilled_patch16_224", _CLASSES, same, container="model"),
    _timm("DeiT III", "deit3_small_patch16_224", _CLASSES, deit3, container="model"),
    _timm("BEiT", "beit_base_patch16_224", _CLASSES, beit_pretrained, container="model"),
    _timm("BEiT v2", "beitv2_base_patch16_224", _CLASSES, beit_pretrained, container="module"),
    _timm("EVA", "eva_giant_patch14_224", _BODY, same),
    _timm("EVA-02", "eva02_base_patch14_448", SMALL | {"num_classes": 0}, eva02, container="module"),
    _timm("CAE (BEiT's network)", "beit_base_patch16_224", _CLASSES, beit_pretrained, container="module"),
    _timm("Swin", "swin_tiny_patch4_window7_224", _WINDOWS, swin, container="model"),
    _timm("Swin v2", "swinv2_tiny_window8_256", _WINDOWS, swin, container="model"),
    _timm("ConvNeXt", "convnext_tiny", _STAGES, convnext, container="model", sizes=(64, 96)),
    _timm("ConvNeXt v2", "convnextv2_tiny", _STAGES, same, sizes=(64, 96)),
    _timm("CLIP (OpenAI's names)", "vit_base_patch16_clip_quickgelu_224", _BODY, openai_clip),
    _timm("OpenCLIP tower of timm", "vit_base_patch16_siglip_224", _BODY, open_clip),
    _timm("SigLIP tower of timm", "vit_base_patch16_siglip_224", _BODY, same),
    _transformers(
        "`ViTForImageClassification`",
        "vit_base_patch16_224",
        _CLASSES | _EPS,
        theirs("ViTForImageClassification", "ViTConfig", logits, num_labels=3),
    ),
    _transformers(
        "`ViTForImageClassification`, shards",
        "vit_base_patch16_224",
        _CLASSES | _EPS,
        theirs("ViTForImageClassification", "ViTConfig", logits, num_labels=3),
        saved="shards",
    ),
    _transformers(
        "`ViTForImageClassification`, names in memory",
        "vit_base_patch16_224",
        _CLASSES | _EPS,
        theirs("ViTForImageClassification", "ViTConfig", logits, num_labels=3),
        saved="state dict",
    ),
    _transformers(
        "`ViTModel`", "vit_base_patch16_224", _BODY | _EPS, theirs("ViTModel", "ViTConfig", tokens), features=features
    ),
    _transformers(
        "`ViTMAEForPreTraining`",
        "vit_base_patch16_224",
        _BODY | _EPS,
        theirs(
            *("ViTMAEForPreTraining", "ViTMAEConfig", unmasked),
            **{"mask_ratio": 0.0, "decoder_hidden_size": 32, "decoder_num_attention_heads": 2},
            **{"decoder_num_hidden_layers": 1, "decoder_intermediate_size": 64},
        ),
        features=features,
    ),
    _transformers(
        "`DeiTForImageClassificationWithTeacher`",
        "deit_small_distilled_patch16_224",
        _CLASSES | _EPS,
        theirs("DeiTForImageClassificationWithTeacher", "DeiTConfig", logits, num_labels=3),
    ),
    _transformers(
        "`DeiTModel`",
        "deit_small_distilled_patch16_224",
        _BODY | _EPS,
        theirs("DeiTModel", "DeiTConfig", tokens),
        features=features,
    ),
    _transformers(
        "`Dinov2Model`",
        "vit_small_patch14_dinov2",
        _BODY,
        theirs("Dinov2Model", "Dinov2Config", tokens, mlp_ratio=2),
        features=features,
    ),
    _transformers(
        "`Dinov2Model`, gated (giant)",
        "vit_giant_patch14_dinov2",
        SMALL | {"num_classes": 0},
        theirs("Dinov2Model", "Dinov2Config", tokens, mlp_ratio=4, use_swiglu_ffn=True),
        features=features,
    ),
    _transformers(
        "`Dinov2ForImageClassification` (without its head)",
        "vit_small_patch14_dinov2",
        _CLASSES,
        theirs(
            *("Dinov2ForImageClassification", "Dinov2Config"),
            lambda model, images: tokens(model.dinov2, images),
            mlp_ratio=2,
            num_labels=3,
        ),
        features=features,
    ),
    _transformers(
        "`Dinov2WithRegistersModel`",
        "vit_small_patch14_reg4_dinov2",
        _BODY,
        theirs("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", tokens, mlp_ratio=2),
        features=features,
    ),
    _transformers(
        "`Dinov2WithRegistersModel`, gated, names in memory",
        "vit_giant_patch14_reg4_dinov2",
        SMALL | {"num_classes": 0},
        theirs("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", tokens, mlp_ratio=4, use_swiglu_ffn=True),
        features=features,
        saved="state dict",
    ),
    _transformers(
        "`DINOv3ViTModel`",
        "vit_small_patch16_dinov3_qkvb",
        _BODY,
        theirs("DINOv3ViTModel", "DINOv3ViTConfig", tokens, num_register_tokens=4),
        features=features,
    ),
    _transformers(
        "`DINOv3ViTModel`, gated",
        "vit_small_plus_patch16_dinov3_qkvb",
        _BODY | {"mlp_ratio": 2.0},
        theirs(
            *("DINOv3ViTModel", "DINOv3ViTConfig", tokens),
            num_register_tokens=4,
            use_gated_mlp=True,
            hidden_act="silu",
        ),
        features=features,
    ),
    _transformers(
        "`SwinForImageClassification`",
        "swin_tiny_patch4_window7_224",
        _WINDOWS,
        theirs("SwinForImageClassification", "SwinConfig", logits, **_THEIR_WINDOWS),
    ),
    _transformers(
        "`SwinForImageClassification`, names in memory",
        "swin_tiny_patch4_window7_224",
        _WINDOWS,
        theirs("SwinForImageClassification", "SwinConfig", logits, **_THEIR_WINDOWS),
        saved="state dict",
    ),
    _transformers(
        "`Swinv2ForImageClassification`",
        "swinv2_tiny_window8_256",
        _WINDOWS,
        theirs("Swinv2ForImageClassification", "Swinv2Config", logits, **_THEIR_WINDOWS),
    ),
    _transformers(
        "`SiglipVisionModel`",
        "vit_base_patch16_siglip_224",
        _BODY | {"act_layer": "gelu_tanh"},
        theirs("SiglipVisionModel", "SiglipVisionConfig", pooled),
    ),
    _transformers(
        "`SiglipForImageClassification`",
        "vit_base_patch16_siglip_gap_224",
        _BODY | {"act_layer": "gelu_tanh", "num_classes": 2},
        theirs("SiglipForImageClassification", "SiglipConfig", logits, vision_config={"intermediate_size": 96}),
    ),
    _transformers(
        "`CLIPVisionModel`",
        "vit_base_patch16_clip_quickgelu_224",
        _BODY,
        theirs("CLIPVisionModel", "CLIPVisionConfig", pooled),
    ),
    _transformers(
        "`CLIPVisionModelWithProjection`",
        "vit_base_patch16_clip_quickgelu_224",
        _BODY,
        theirs(
            *("CLIPVisionModelWithProjection", "CLIPVisionConfig"),
            lambda model, images: pooled(model.vision_model, images),
        ),
    ),
    _transformers(
        "`BeitForImageClassification`",
        "beit_base_patch16_224",
        _CLASSES | _EPS,
        theirs("BeitForImageClassification", "BeitConfig", logits, num_labels=3, use_relative_position_bias=True),
    ),
    _transformers(
        "`BeitForImageClassification`, names in memory",
        "beit_base_patch16_224",
        _CLASSES | _EPS,
        theirs("BeitForImageClassification", "BeitConfig", logits, num_labels=3, use_relative_position_bias=True),
        saved="state dict",
    ),
    _transformers(
        "`ConvNextForImageClassification`",
        "convnext_tiny",
        _STAGES,
        theirs(
            *("ConvNextForImageClassification", "ConvNextConfig", logits),
            hidden_sizes=[8, 16, 32, 64],
            depths=[1, 1, 1, 1],
            num_labels=3,
        ),
    ),
)


def rows() -> Iterator[str]:
    """The table, a line at a time, measured anew."""
    yield "| file | reference | target | largest difference |"
    yield "|---|---|---|---|"
    for layout in LAYOUTS:
        found = {}
        for size in dict.fromkeys(layout.sizes):
            with tempfile.TemporaryDirectory() as folder:
                found[size] = difference(layout, Path(folder), size)
        measured = ", ".join(f"{value:.1g} at {size} pixels" for size, value in found.items())
        yield f"| {layout.title} | {layout.library} | `{layout.model}` | {measured} |"


if __name__ == "__main__":
    logging.disable()
    warnings.simplefilter("ignore")
    for line in rows():
        print(line, flush=True)
