"""The layouts of weights that ``checkpoints.py`` tries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from checkpoint_names import (
    State,
    beit_pretrained,
    convnext,
    deit3,
    dinov2,
    dinov2_giant,
    dinov3,
    eva02,
    mae,
    moco,
    open_clip,
    openai_clip,
    same,
    swin,
)
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """One layout of weights and the network that it is loaded into."""

    title: str
    """What the file is."""
    package: str
    """The package whose computation is the reference."""
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
