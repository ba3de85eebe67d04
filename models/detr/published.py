"""Names of published detectors, brought to those of our network and of its parts.

Official files of Relation-DETR have our names, but for a Swin or ConvNeXt in them, which has torchvision's. Of DETR,
Deformable-DETR and DINO the backbone fits, and of the last two the encoder and the neck, under the names of their
authors (``backbone.0.body.``), of detrex (``backbone.res2.``) and of mmdet (``backbone.layer1.``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from models.adapted import Adapted
from models.detr.encoder import Encoder
from models.detr.neck import ChannelMapper
from models.detr.published_backbones import adapt_backbone, has_stages
from models.detr.transformer import TransformerSizes

CLASS_NAMES = "_classes_"
"""Buffer of the official code that spells the names of the classes."""
TRAINING_ONLY = {
    "hybrid queries": (
        "transformer.hybrid_tgt_embed.",
        "transformer.hybrid_class_head.",
        "transformer.hybrid_bbox_head.",
    ),
    "embedding of labels for denoising": ("denoising_generator.",),
}
"""What files made for inference may lack."""
_BACKBONE = "backbone."
_FIRST_HEAD = "transformer.encoder_class_head.weight"

_LAYER = re.compile(r"^(?:.*\.)?encoder\.layers\.(\d+)\.(.+)$|^layers\.(\d+)\.(.+)$")
_IN_LAYER = (
    (re.compile(r"^attentions\.0\."), "self_attn."),  # detrex, mmdet 2
    (re.compile(r"^ffn(s\.0)?\.layers\.0\.0\."), "linear1."),
    (re.compile(r"^ffn(s\.0)?\.layers\.1\."), "linear2."),
    (re.compile(r"^norms\.0\."), "norm1."),
    (re.compile(r"^norms\.1\."), "norm2."),
)
_LEVELS = re.compile(r"^(?:.*\.)?level_embeds?$")
_DECODER = re.compile(r"(^|\.)(?<!trans_decoder\.)decoder\.layers\.0\.")
"""A decoder of a detector; that of VLTVG finds the one object that a text describes."""
_DENSE = re.compile(
    r"(^|\.)encoder\.layers\.\d+\.(self_attn|attentions\.0)\.(attn\.)?(in_proj_weight|[qk]_proj\.weight)$"
)
"""Attention of every place to every other, as in plain DETR."""
_DEFORMABLE = re.compile(r"(^|\.)encoder\.layers\.\d+\..*sampling_offsets\.weight$")
_NECK = re.compile(
    r"^(?:.*\.)?(?:input_proj\.(\d+)\.([01])|(extra_)?convs\.(\d+)\.(conv|gn|norm|[01]))\.(weight|bias)$"
)
_HOT_POSITIONS = ((r"(^|\.)label_enc\.", r"(^|\.)input_proj\.\d"), (r"(^|\.)dn_query_generator\.label_embedding\.",))
"""Names in files of DINO by its authors and of mmdet; detrex embeds positions as Relation-DETR does."""


def adapt_detector(state: Mapping[str, Tensor], network: nn.Module) -> Adapted:
    """Prepare a file of Relation-DETR for the whole network.

    Args:
        state: Weights by name.
        network: A :class:`RelationDetr`.

    Raises:
        ValueError: The file is of another detector, or holds no more than a backbone.
    """
    own = network.state_dict()
    if _FIRST_HEAD not in state or not any(name.startswith("neck.convs.") for name in state):
        raise ValueError(_of_another(state))
    kept = {name: each for name, each in state.items() if name != CLASS_NAMES and not _is_counter(name)}
    kept = _with_our_backbone(kept, cast(nn.Module, network.backbone))
    fresh: list[str] = []
    notes: list[str] = []
    for what, prefixes in TRAINING_ONLY.items():
        wanted = [name for name in own if name.startswith(prefixes)]
        if wanted and not any(name.startswith(prefixes) for name in kept):
            fresh += wanted
            notes.append(f"the file has no {what}, which training alone needs: what the recipe has of it starts anew")
    return Adapted(kept, kept, fresh=fresh, notes=notes, classes=spelt_classes(state))


def _with_our_backbone(state: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Name a Swin or ConvNeXt of the official code as ours; a ResNet has our names."""
    inside = {name.removeprefix(_BACKBONE): each for name, each in state.items() if name.startswith(_BACKBONE)}
    if not has_stages(inside):
        return dict(state)
    others = {name: each for name, each in state.items() if not name.startswith(_BACKBONE)}
    return others | {f"{_BACKBONE}{name}": each for name, each in adapt_backbone(inside, backbone).items()}


def spelt_classes(state: Mapping[str, Tensor]) -> list[str] | None:
    """The names of the classes that a file of the official code spells; None where it has none but numbers.

    Args:
        state: Weights, among them a vector of character codes with a -1 behind every name.
    """
    codes = state.get(CLASS_NAMES)
    if codes is None or codes.ndim != 1 or codes.is_floating_point():
        return None
    values = [int(value) for value in codes]
    if not values or values[-1] != -1 or any(not -1 <= value < 0x110000 for value in values):
        return None
    names = "".join("\n" if value == -1 else chr(value) for value in values).split("\n")[:-1]
    return None if names == [str(number) for number in range(len(names))] else names


def adapt_encoder(state: Mapping[str, Tensor], module: nn.Module) -> Adapted:
    """Bring the encoder of Relation-DETR, Deformable-DETR or DINO to our names.

    Args:
        state: Weights of a whole detector by name.
        module: An :class:`Encoder`, or a module that holds one as ``encoder`` beside ``level_embeds``.

    Raises:
        ValueError: It is an encoder of plain DETR, or there is none.
    """
    if any(_DENSE.search(name) for name in state):
        raise ValueError(
            "every place attends to every other in the encoder of plain DETR, which has no weights for deformable "
            "attention; take its backbone alone, as model.checkpoint.backbone"
        )
    prefix = "" if isinstance(module, Encoder) else "encoder."
    own = module.state_dict()
    named = {_in_encoder(name, prefix, own): tensor for name, tensor in state.items()}
    if not any(name.startswith(f"{prefix}layers.") and "sampling_offsets" in name for name in named):
        raise ValueError("has no encoder under the names of Relation-DETR, Deformable-DETR or DINO")
    fusion = [name for name in own if name.startswith(f"{prefix}memory_fusion.")]
    notes = []
    if lacks_fusion := bool(fusion) and not any(name in named for name in fusion):
        notes.append("its encoder has no fusion of memory, which therefore starts anew")
    if any(all(any(re.search(sign, name) for name in state) for sign in signs) for signs in _HOT_POSITIONS):
        notes.append(
            "DINO's authors and mmdet embed positions at temperature 20, and this network at 10,000: its encoder has "
            "to learn them anew"
        )
    return Adapted(named, named, fresh=fusion if lacks_fusion else (), notes=notes)


def _in_encoder(name: str, prefix: str, own: Mapping[str, Tensor]) -> str:
    if name in own:
        return name
    if _LEVELS.match(name):
        return "level_embeds"
    found = _LAYER.match(name)
    if found is None:
        return name
    number, inside = (found[1], found[2]) if found[1] else (found[3], found[4])
    for pattern, ours in _IN_LAYER:
        inside = pattern.sub(ours, inside)
    ours = f"{prefix}layers.{number}.{inside}"
    # What has no place keeps the name that the file gives it, unless it is of a layer that the network lacks.
    return ours if ours in own or f"{prefix}layers.{number}.norm1.weight" not in own else name


def adapt_neck(state: Mapping[str, Tensor], neck: ChannelMapper) -> Adapted:
    """Bring the convolutions between backbone and encoder to our names.

    Raises:
        ValueError: There are none for several maps, or they have biases.
    """
    named: dict[str, Tensor] = {}
    found = 0
    for name, tensor in state.items():
        match = _NECK.match(name)
        if match is None:
            named[name] = tensor
            continue
        level = int(match[1] or match[4]) + (neck.maps if match[3] else 0)
        inner = match[2] or {"conv": "0", "gn": "1", "norm": "1"}.get(match[5], match[5])
        if (inner, match[6]) == ("0", "bias"):
            raise ValueError(
                f"its convolutions have biases ({name}), for which this neck has no place, and which no other weight "
                "can stand for; leave the part out, and the neck starts anew"
            )
        named[f"convs.{level}.{inner}.{match[6]}"] = tensor
        found += 1
    if not found:
        raise ValueError("has no neck for several maps under the names of Relation-DETR, Deformable-DETR or DINO")
    return Adapted(named, named)


def describe(state: Mapping[str, Tensor]) -> dict[str, str]:
    """What a recipe can make of weights of a detector; nothing where they are of none that we know."""
    if _FIRST_HEAD in state and "transformer.level_embeds" in state:
        classes, queries = state[_FIRST_HEAD].shape[0], state.get("transformer.tgt_embed.weight")
        absent = [what for what, names in TRAINING_ONLY.items() if not any(name.startswith(names) for name in state)]
        told = f"Relation-DETR, {classes} classes, {0 if queries is None else len(queries)} queries"
        names = spelt_classes(state)
        told += f", the names of {len(names)} classes" if names else ""
        told += f"; made for inference, without {' and '.join(absent)}" if absent else ""
        sizes = ", ".join(f"{name}: {str(value).lower()}" for name, value in _unusual_sizes(state).items())
        args = f" 'model.args={{{sizes}}}'" if sizes else ""
        recipe = _recipe(state)
        return {"detector": told} | ({"in a recipe": f"{recipe} model.checkpoint=FILE{args}"} if recipe else {})
    kind = _kind(state)
    return {} if kind is None else {"detector": kind[0], "in a recipe": f"'model.checkpoint={kind[1]}'"}


def _recipe(state: Mapping[str, Tensor]) -> str | None:
    """The recipe that has the backbone of a published Relation-DETR; None for other backbones."""
    inside = {name.removeprefix(_BACKBONE) for name in state if name.startswith(_BACKBONE)}
    if has_stages(inside):
        is_swin = any(name.endswith("relative_position_bias_table") for name in inside)
        return f"relation_detr/{'swin' if is_swin else 'convnext'}_large"
    is_resnet50 = {"layer3.5.conv3.weight", "layer4.2.conv3.weight"} <= inside and "layer3.6.conv3.weight" not in inside
    return "relation_detr/resnet50" if is_resnet50 else None


def _unusual_sizes(state: Mapping[str, Tensor]) -> dict[str, int | bool]:
    """Sizes of the transformer in a file of Relation-DETR, those that are not the published ones."""

    def layers(of: str) -> int:
        return len({name.split(".")[3] for name in state if name.startswith(f"transformer.{of}.layers.")})

    def rows(name: str) -> int:
        return len(state[name]) if name in state else 0

    levels, dim = state["transformer.level_embeds"].shape
    first = "transformer.encoder.layers.0."
    offsets = rows(f"{first}self_attn.sampling_offsets.weight")  # 4 points of 2 numbers for each head and level
    found: dict[str, int | bool] = {
        "dim": dim,
        "heads": offsets // (8 * levels),
        "hidden": rows(f"{first}linear1.weight"),
        "encoder_layers": layers("encoder"),
        "decoder_layers": layers("decoder"),
        "levels": levels,
        "queries": rows("transformer.tgt_embed.weight"),
        # A file made for inference says nothing of them.
        "hybrid_queries": rows("transformer.hybrid_tgt_embed.weight") or TransformerSizes.hybrid_queries,
        "relation": any(".position_relation_embedding." in name for name in state),
        "memory_fusion": any(".memory_fusion." in name for name in state),
    }
    usual = TransformerSizes()
    return {name: value for name, value in found.items() if value != getattr(usual, name)}


def _kind(state: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Another detector, in words, and the parts of it that fit."""
    if any(_DEFORMABLE.search(name) for name in state):
        return "Deformable-DETR or DINO", "{backbone: FILE, encoder: FILE}"
    if any(_DENSE.search(name) for name in state) and any(_DECODER.search(name) for name in state):
        return "DETR", "{backbone: FILE}"
    return None


def _of_another(state: Mapping[str, Tensor]) -> str:
    if (kind := _kind(state)) is not None:
        return f"it is of {kind[0]}, of which these parts fit: 'model.checkpoint={kind[1]}'"
    return "it is no whole detector; if it is a backbone, name it as such: 'model.checkpoint={backbone: FILE}'"


def _is_counter(name: str) -> bool:
    """Whether a tensor counts the batches of a norm, which a frozen one does not."""
    return name.endswith("num_batches_tracked")
