"""Recognising which family of networks a set of weights belongs to, from their names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DROPPOS = "DropPos pre-training"

_SIGNATURES = (
    # The most particular first: a DETR holds a ResNet, a DropPos or MAE file holds a ViT, an ACMIL an ABMIL.
    ("TransVG", r"(^|\.)visumodel\."),
    ("VLTVG", r"(^|\.)trans_decoder\.decoder\.extra_encoder_layers\."),
    ("Relation-DETR", r"(^|\.)transformer\.encoder_class_head\.weight$"),
    ("DETR", r"(^|\.)transformer\.decoder\.layers\.0\."),
    (
        "CLIP",
        r"(^|\.)(visual\.transformer\.resblocks\.0\.|class_embedding$|vision_model\.encoder\.layers\.0\.)",
    ),
    ("ViT in the Hugging Face layout", r"encoder\.layer\.0\.attention\.attention\.query\.weight$"),
    ("ACMIL-MHA", r"(^|\.)sub_attention\.0\.q_proj\.weight$"),
    ("ACMIL-GA", r"(^|\.)Slide_classifier\.fc\.weight$"),
    ("ABMIL", r"(^|\.)attention\.attention_V\.0\.weight$"),
    ("CLAM", r"(^|\.)attention_net\.\d+\.attention_a\.0\.weight$"),
    ("TransMIL", r"(^|\.)pos_layer\.proj1\.weight$"),
    ("BERT", r"encoder\.layer\.0\.attention\.self\.query\.weight$"),
    (_DROPPOS, r"(^|\.)mask_pos_token$"),
    ("MAE pre-training", r"(^|\.)decoder_blocks\.0\."),
    ("Swin", r"(^|\.)layers\.0\.blocks\.0\.attn\.(relative_position_bias_table|logit_scale|cpb_mlp)"),
    ("distilled ViT (DeiT)", r"(^|\.)dist_token$"),
    ("ViT", r"(^|\.)blocks\.0\.attn\.(qkv|q_proj|q)\.weight$"),
    ("ConvNeXt", r"(^|\.)stages\.0\.(blocks\.)?0\.(conv_dw|dwconv)\.weight$"),
    ("ResNet", r"(^|\.)layer1\.0\.conv1\.weight$"),
    ("EfficientNet or MobileNet", r"(^|\.)conv_stem\.weight$|(^|\.)features\.0\.0\.weight$"),
    ("VGG or AlexNet", r"(^|\.)features\.0\.weight$"),
)


def guess_family(names: Iterable[str]) -> str | None:
    """Name the family that weights of these names belong to, such as ``Swin``; None where nothing is typical."""
    listed = list(names)
    for family, pattern in _SIGNATURES:
        if any(re.search(pattern, name) for name in listed):
            return family
    return None


def class_token_is_untrained(names: Iterable[str]) -> bool:
    """Whether weights of these names come from a training that no loss of the class token was part of.

    DropPos learns from patches alone. A network that starts from such weights has to average its patches.
    """
    return guess_family(names) == _DROPPOS
