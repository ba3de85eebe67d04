"""Names of published files, brought to those of our grounding network and of its parts.

Official files of TransVG and VLTVG fill the whole network, files of DETR its visual branch, files of BERT its text
(``models.text.adapt_bert``). What a file holds beside is reported, and refused unless it is known to be of no use here.
A network of ours that is trained on images alone and has the same visual branch fills that, and all else starts anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from models.adapted import Adapted
from models.detr.published_backbones import adapt_backbone
from models.grounding.cross_attention import SPAN
from models.grounding.names import OF_TRANSVG, OF_VLTVG, TABLE, Kind
from models.grounding.positions import Layout, fit_tables, split_table
from models.grounding.transvg import TransVG
from models.grounding.visual import VisualBranch
from models.grounding.vltvg import VLTVG
from models.text import UNUSED as UNUSED_OF_TEXT
from models.text import adapt_bert

_Adapt = Callable[[Mapping[str, Tensor], Any], Adapted]
_OFFSETS = re.compile(r"\.img2img_attn\.pos_[xy]$")
"""Tables of VLTVG with the sines and cosines of offsets, which are computed here."""
_LEARNT_WITH_PADDING = (
    "the file has learnt with padding in its attention; model.args.mask_padding=false leaves it there, as its authors "
    "evaluate it"
)
_VISUAL, _BACKBONE, _TEXT = "visual.", "visual.backbone.", "text."
_BESIDE_VISUAL = re.compile(
    r"^(transformer\.decoder|class_embed|bbox_embed|query_embed"  # DETR
    r"|textmodel|vl_pos_embed|reg_token|visu_proj|text_proj|vl_transformer"  # TransVG
    r"|bert|bert_proj|trans_decoder"  # VLTVG
    r"|text|visual_proj|fusion|verification|reasoning|decoder|box_head|bin_head"  # our own networks for expressions
    r"|class_head|nothing_head|edge_head)\."  # our own network for images alone
)
"""What stands beside backbone and encoder in a file of a whole network."""


def adapt_grounder(state: Mapping[str, Tensor], network: TransVG | VLTVG) -> Adapted:
    """Prepare a file of the same kind of network, official or ours, for the whole network; a pure function.

    Args:
        state: Weights by name.
        network: What they are for.

    Raises:
        ValueError: The file is of something else, its positions cannot be told apart, or it holds tensors without a
            place here.
    """
    kind = OF_TRANSVG if isinstance(network, TransVG) else OF_VLTVG
    if not kind.is_of(state):
        raise ValueError(_of_a_part(state, kind))
    named = {kind.ours(name): tensor for name, tensor in state.items()}
    layout = Layout(len(network.fusion.text_positions), network.fusion.grid) if isinstance(network, TransVG) else None
    if layout and TABLE in state:
        named |= split_table(named.pop(TABLE), layout)
    named = _below(_BACKBONE, named, adapt_backbone, network.visual.backbone)
    named = _below(_TEXT, named, adapt_bert, network.text)
    own = network.state_dict()
    named = _as_in_file(named, own, state)
    _refuse(name for name, each in named.items() if name not in own and not _is_of_no_use(name, each))
    tables, notes = fit_tables(named, layout) if layout else ({}, [])
    if isinstance(network, VLTVG) and network.mask_padding and any(name.startswith("trans_decoder.") for name in state):
        notes.append(_LEARNT_WITH_PADDING)
    head = [name for name in own if name.startswith("bin_head.")]
    if all(name in named and named[name].shape == own[name].shape for name in head):
        return Adapted(named | tables, named, notes=notes)
    notes.append("the file has no quantised head of as many bins, which therefore starts anew")
    named = {name: each for name, each in named.items() if name not in head}
    return Adapted(named | tables, named, fresh=head, notes=notes)


def adapt_visual(state: Mapping[str, Tensor], branch: VisualBranch) -> Adapted:
    """Bring backbone and encoder of DETR, or those of a grounding network, to the names of our visual branch.

    Args:
        state: Weights by name.
        branch: What they are for.

    Raises:
        ValueError: The file has no such encoder, or tensors without a place here.
    """
    if any("sampling_offsets" in name for name in state):
        raise ValueError(
            "its encoder attends to some points alone (Deformable-DETR, DINO), and this one to all places; take a file "
            "of plain DETR, or the backbone alone, as model.checkpoint.visual.backbone"
        )
    named = {re.sub(r"^trans_encoder\.", "transformer.", name): tensor for name, tensor in state.items()}
    if not any(name.startswith("transformer.encoder.layers.") for name in named):
        raise ValueError(
            "has no encoder of DETR; if it is of a ResNet alone, name it as such: model.checkpoint.visual.backbone"
        )
    own = branch.state_dict()
    named = _as_in_file(_below("backbone.", named, adapt_backbone, branch.backbone), own, state)
    _refuse(
        name
        for name, each in named.items()
        if name not in own and not _is_of_no_use(name, each) and not _BESIDE_VISUAL.search(name)
    )
    return Adapted(named, named)


def holds_visual_alone(state: Mapping[str, Tensor], network: nn.Module) -> bool:
    """Whether weights are of another network of ours, which shares the visual branch with this one and nothing else."""
    parts = {name.partition(".")[0] for name in network.state_dict()} & {name.partition(".")[0] for name in state}
    return parts == {_VISUAL.rstrip(".")}


def adapt_visual_alone(state: Mapping[str, Tensor], network: TransVG | VLTVG) -> Adapted:
    """Take the visual branch of a network that was trained on images alone; a pure function.

    Args:
        state: Weights by name, for which :func:`holds_visual_alone`.
        network: What they are for; all of it but the visual branch may start fresh.

    Raises:
        ValueError: The branch of the file has tensors without a place here.
    """
    named = _below(_VISUAL, state, adapt_visual, network.visual)
    fresh = [name for name in network.state_dict() if not name.startswith(_VISUAL)]
    return Adapted(named, named, fresh=fresh, notes=["the file has the visual branch alone; all else starts fresh"])


def is_of_detr(names: Iterable[str]) -> bool:
    """Whether weights of these names hold the encoder of a DETR, and are of no grounding network."""
    listed = [*names]
    has_encoder = any(name.startswith("transformer.encoder.layers.") for name in listed)
    return has_encoder and not any(OF_TRANSVG.ours(name).startswith(("fusion.", "visual.", "text.")) for name in listed)


def _below(prefix: str, named: Mapping[str, Tensor], adapt: _Adapt, module: nn.Module) -> dict[str, Tensor]:
    """Adapt what stands below a prefix for the module of that name."""
    inside = {name.removeprefix(prefix): each for name, each in named.items() if name.startswith(prefix)}
    others = {name: each for name, each in named.items() if not name.startswith(prefix)}
    return others | {prefix + name: each for name, each in adapt(inside, module).items()}


def _as_in_file(named: Mapping[str, Tensor], own: Collection[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give what has no place the name that it has in the file."""
    theirs = {id(tensor): name for name, tensor in state.items()}
    return {name if name in own else theirs.get(id(each), name): each for name, each in named.items()}


def _is_of_no_use(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a pooler of text, counts the batches of a norm, or has the offsets that are computed here."""
    if _OFFSETS.search(name) is not None:
        return len(tensor) == 2 * SPAN + 1
    return UNUSED_OF_TEXT.search(name) is not None or name.endswith("num_batches_tracked")


def _refuse(strange: Iterable[str]) -> None:
    """Refuse tensors without a place."""
    listed = list(strange)
    if listed:
        more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        raise ValueError(f"it has {', '.join(listed[:5])}{more}, for which there is no place; change model.args")


def _of_a_part(state: Mapping[str, Tensor], kind: Kind) -> str:
    part = None
    if any(re.search(r"(^|\.)encoder\.layers\.0\.self_attn\.in_proj_weight$", name) for name in state):
        part = "visual"
    elif any(re.search(r"(^|\.)encoder\.layer\.0\.attention\.self\.query\.weight$", name) for name in state):
        part = "text"
    elif any(re.search(r"(^|\.)layer1\.0\.conv1\.weight$", name) for name in state):
        part = "visual.backbone"
    if part is None:
        return f"it is no file of {kind.method}"
    return f"it is no file of {kind.method}, but one of its parts fits: 'model.checkpoint={{{part}: FILE}}'"
