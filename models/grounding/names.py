"""Names of tensors in official files of grounding networks, ours for them, and what they tell of a network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from models.grounding.positions import REG, TEXT, VISUAL

TABLE = "vl_pos_embed.weight"
"""The official table of positions of TransVG: [REG], words, cells."""


class Kind(NamedTuple):
    """A network with official files."""

    method: str
    renamed: tuple[tuple[str, str], ...]
    """How official names begin, and ours."""
    typical: tuple[str, ...]
    """How names begin, official and ours, that no other file has."""

    def is_of(self, names: Iterable[str]) -> bool:
        """Whether weights of these names are of such a network."""
        return any(name.startswith(self.typical) for name in names)

    def ours(self, name: str) -> str:
        """The name that a tensor of the official code has here; what has another layout here keeps its name."""
        for theirs, ours in self.renamed:
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name


OF_TRANSVG = Kind(
    "TransVG",
    (
        ("visumodel.", "visual."),
        ("textmodel.bert.", "text."),
        ("reg_token.weight", "fusion.reg_token"),
        ("visu_proj.", "visual_proj."),
        ("vl_transformer.encoder.", "fusion.encoder."),
        ("bbox_embed.", "box_head."),
    ),
    ("vl_transformer.", "fusion."),
)
OF_VLTVG = Kind(
    "VLTVG",
    (
        ("backbone.", "visual.backbone."),
        ("input_proj.", "visual.input_proj."),
        ("trans_encoder.", "visual.transformer."),
        ("bert.", "text."),
        ("bert_proj.", "text_proj."),
        ("trans_decoder.decoder.extra_encoder_layers.0.", "verification."),
        ("trans_decoder.decoder.", "reasoning."),
        ("bbox_embed.", "box_head."),
    ),
    ("trans_decoder.", "reasoning."),
)
_VISUAL, _TEXT = "visual.transformer.encoder.layers", "text.encoder.layer"
"""What layers of the branches stand below."""


def describe(state: Mapping[str, Tensor]) -> dict[str, str]:
    """What weights of TransVG or VLTVG, official or ours, say of their network; nothing where they are of none."""
    for kind in (OF_TRANSVG, OF_VLTVG):
        if kind.is_of(state):
            named = {kind.ours(name): tensor for name, tensor in state.items()}
            told = _of_transvg(named) if kind is OF_TRANSVG else _of_vltvg(named)
            if told and (bins := named.get("bin_head.mlp.layers.2.bias")) is not None:
                told += f", {len(bins) // 4} bins of a coordinate"
            return {"grounding network": told} if told else {}
    return {}


def _of_transvg(named: Mapping[str, Tensor]) -> str:
    if (token := named.get("fusion.reg_token")) is None:
        return ""
    positions = sum(len(named[name]) for name in (TABLE, REG, TEXT, VISUAL) if name in named)
    visual, fusion, text = (_count(named, part) for part in (_VISUAL, "fusion.encoder.layers", _TEXT))
    return (
        f"TransVG, width {token.shape[-1]}, {visual} visual and {fusion} fusion layers, a BERT of {text} layers, "
        f"{positions} positions of [REG], words and cells"
    )


def _of_vltvg(named: Mapping[str, Tensor]) -> str:
    if (query := named.get("reasoning.vis_query_embed.weight")) is None:
        return ""
    visual, stages, text = (_count(named, part) for part in (_VISUAL, "reasoning.layers", _TEXT))
    return f"VLTVG, width {query.shape[-1]}, {visual} visual layers and {stages} stages, a BERT of {text} layers"


def _count(named: Iterable[str], part: str) -> int:
    """How many layers stand below a name."""
    return len({found[1] for name in named if (found := re.match(rf"{re.escape(part)}\.(\d+)\.", name))})
