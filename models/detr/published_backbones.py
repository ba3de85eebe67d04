"""Names of published backbones, alone or within a detector, brought to those of ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from models.adapted import Adapted
from models.detr.backbones import ChannelsFirst, PlainPyramid
from models.positions import made_for, stated_size
from models.vit import adapt_published as adapt_transformer

SMALLEST_GAIN = 0.03
"""Gain of a stem, in standard deviations for a pixel that differs by one of its units, under which the units are bytes.
Networks for normalised pixels have about 0.3; for bytes, whose deviation is about 57, a fiftieth of it."""

_STAGES = re.compile(r"^(?P<before>(?:.*\.)?)features\.(?P<part>\d+)\.(?P<rest>.+)$")
"""Swin and ConvNeXt of torchvision: the stem, then stages and what makes maps smaller between them, in turns."""
_IN_CONVNEXT_BLOCK = {"block.0": "conv_dw", "block.2": "norm", "block.3": "mlp.fc1", "block.5": "mlp.fc2"}
_IN_SWIN_BLOCK = {"mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}

_DETECTRON2 = re.compile(
    r"^(?P<before>.*\.)?(?:stem\.(?P<stem>conv1)|res(?P<stage>[2-5])\.(?P<block>\d+)\.(?P<layer>conv[123]|shortcut))"
    r"(?P<norm>\.norm)?\.(?P<kind>weight|bias|running_mean|running_var)$"
)


def adapt_backbone(state: Mapping[str, Tensor], backbone: nn.Module) -> Adapted:
    """Rename published weights for a backbone; a pure function.

    Takes files of whole detectors with a ResNet (DETR, Deformable-DETR and DINO by their authors, by detrex and by
    mmdet), of Relation-DETR with a Swin or ConvNeXt, of classifiers as torchvision and timm save them, and for a plain
    transformer all that classification takes.

    Args:
        state: Weights by name.
        backbone: What ``build_backbone`` made.

    Raises:
        ValueError: The backbone was trained on other units of pixels, or cannot be converted.
    """
    if isinstance(backbone, PlainPyramid):
        return _adapt_plain(state, backbone)
    named = _of_stages({_of_torchvision(name): tensor for name, tensor in state.items()})
    places = _places(backbone)
    before = _prefix(named, places)
    named = {places.get(name.removeprefix(before), name): tensor for name, tensor in named.items()}
    if expects_bytes(named):
        raise ValueError(
            "its first convolution was trained on pixels from 0 to 255, as in Caffe and detectron2's own models, which "
            "take blue first and stride in other convolutions: another network than this one. Take a ResNet that was "
            "trained on normalised pixels, such as torchvision's"
        )
    return Adapted(named, named)


def expects_bytes(named: Mapping[str, Tensor]) -> bool:
    """Whether a ResNet's first convolution and its batch norm give pixels a gain that only suits units of a byte.

    Args:
        named: Weights with the names ``conv1.weight`` and ``bn1.*``; others are not judged.
    """
    kernel, scale, variance = (named.get(name) for name in ("conv1.weight", "bn1.weight", "bn1.running_var"))
    if kernel is None or scale is None or variance is None or kernel.is_meta:
        return False
    # Weights of a phase that is still to come are zeros, which say nothing.
    gain = scale.float().abs() / (variance.float() + 1e-5).sqrt() * kernel.float().flatten(1).norm(dim=1)
    return bool(0 < torch.median(gain) < SMALLEST_GAIN)


def _of_torchvision(name: str) -> str:
    """The name that torchvision has for a tensor of detectron2's ResNet."""
    found = _DETECTRON2.match(name)
    if found is None:
        return name
    before, kind = found["before"] or "", found["kind"]
    if found["stem"]:
        return f"{before}{'bn1' if found['norm'] else 'conv1'}.{kind}"
    block = f"{before}layer{int(found['stage']) - 1}.{found['block']}"
    if found["layer"] == "shortcut":
        return f"{block}.downsample.{1 if found['norm'] else 0}.{kind}"
    return f"{block}.{found['layer'].replace('conv', 'bn') if found['norm'] else found['layer']}.{kind}"


def has_stages(names: Iterable[str]) -> bool:
    """Whether weights are those of torchvision's Swin or ConvNeXt."""
    return any(_STAGES.match(name) for name in names)


def _of_stages(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name torchvision's Swin and ConvNeXt as timm's whole models do; other weights keep their names."""
    is_swin = any(name.endswith("relative_position_bias_table") for name in state)
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        found = _STAGES.match(name)
        if found is None:
            named[name] = tensor
        elif not name.endswith("relative_position_index"):  # timm computes it
            place = (_swin_place if is_swin else _convnext_place)(int(found["part"]), found["rest"])
            named[found["before"] + place] = tensor.flatten() if name.endswith("layer_scale") else tensor
    return named


def _swin_place(part: int, rest: str) -> str:
    if part == 0:
        return f"patch_embed.{'proj' if rest.startswith('0.') else 'norm'}.{rest[2:]}"
    return f"layers.{part // 2}." + (_in_block(rest, _IN_SWIN_BLOCK) if part % 2 else f"downsample.{rest}")


def _convnext_place(part: int, rest: str) -> str:
    if part == 0:
        return f"stem.{rest}"
    rest = rest.replace("layer_scale", "gamma")
    return f"stages.{part // 2}." + (_in_block(rest, _IN_CONVNEXT_BLOCK) if part % 2 else f"downsample.{rest}")


def _in_block(rest: str, names: Mapping[str, str]) -> str:
    number, _, inside = rest.partition(".")
    layer, _, kind = inside.rpartition(".")
    return f"blocks.{number}.{names[layer]}.{kind}" if layer in names else f"blocks.{number}.{inside}"


def _places(backbone: nn.Module) -> dict[str, str]:
    """Names of a backbone's tensors in the whole timm model and as they are -> as they are.

    timm writes ``layers_0`` in a backbone for what is ``layers.0`` in the model.
    """
    prefix = "model." if isinstance(backbone, ChannelsFirst) else ""
    own = list(backbone.state_dict())
    whole = {re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", name.removeprefix(prefix)): name for name in own}
    return whole | {name: name for name in own}


def _prefix(names: Iterable[str], wanted: Mapping[str, object]) -> str:
    """The prefix below which most of the wanted names stand."""
    found: Counter[str] = Counter({"": 0})
    for name in names:
        parts = name.split(".")
        cuts = [cut for cut in range(len(parts)) if ".".join(parts[cut:]) in wanted]
        found.update("".join(f"{part}." for part in parts[:cut]) for cut in cuts)
    return found.most_common(1)[0][0]


def _adapt_plain(state: Mapping[str, Tensor], backbone: PlainPyramid) -> Adapted:
    """Bring weights to the plain transformer of a pyramid, and its positions to the grid of its images."""
    inside = "model.model."
    fresh = [name for name in backbone.state_dict() if not name.startswith(inside)]
    if any(name.startswith(inside) for name in state):  # one of ours
        return Adapted(state, state, fresh=[name for name in fresh if name not in state])
    transformer = cast(VisionTransformer, backbone.model.model)
    own = transformer.state_dict()
    before = _prefix(state, own)
    with made_for(transformer, stated_size(backbone)):
        adapted = adapt_transformer({name.removeprefix(before): each for name, each in state.items()}, transformer)

    def placed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"{inside}{name}" if name in own else name: each for name, each in weights.items()}

    notes = ["its pyramid of maps starts anew: a plain transformer has none"]
    return Adapted(placed(adapted), placed(adapted.named), fresh=fresh, notes=notes)
