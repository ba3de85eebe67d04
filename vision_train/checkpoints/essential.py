"""Tensors without which the rest of a network means nothing, however small they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from vision_train.checkpoints.report import Entry

_BULK = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)
"""Layers that may be missing as a whole: what they hold is judged by its number of parameters."""
_TOKENS = re.compile(
    r"^(cls|class|reg|register|storage)_tokens?$|^(absolute_)?pos_embed(_\w+)?$|^norm_pre\.|^rel_pos_bias\.|"
    r"^(relative_position_bias_table|class_embedding)$"
)
"""Tensors of a file, at its top level, that no network of the same kind lacks."""
_DERIVED = re.compile(
    r"(relative_position_index|relative_coords_table|attn_mask|num_batches_tracked|bias_mask|periods|freqs|position_ids|"
    r"rel_coords|\.total_(ops|params))$"
)
"""Buffers that a model computes by itself."""


def essential_names(model: nn.Module) -> set[str]:
    """Names of a model's tensors that no share can excuse.

    They are all that is not the weight or bias of a linear or convolution layer: position tables, class, register and
    distillation tokens, norms with their statistics, layer scales; and the first convolution, which makes patches of
    pixels. Counters and indices are none. What :func:`gaps` finds comes to them.
    """
    own = model.state_dict()
    names: set[str] = set()
    first: str | None = None
    for prefix, module in model.named_modules():
        held = [f"{prefix}.{name}".lstrip(".") for name, _ in _directly_in(module)]
        if not isinstance(module, _BULK):
            names.update(held)
        elif first is None and isinstance(module, nn.modules.conv._ConvNd):
            first = prefix
            names.update(held)
    return {name for name in names if name in own and own[name].is_floating_point() and not _DERIVED.search(name)}


def gaps(entries: Sequence[Entry]) -> set[str]:
    """Names of unfilled tensors in parts of the network that a file fills elsewhere: the rest reads what they give.

    A part is what stands at the top of the network, such as ``blocks`` or ``head``. One that the file lacks altogether
    may start fresh; a matrix or a block in the middle of one that it has may not.
    """
    filled = {_part(entry.name) for entry in entries if entry.outcome in ("matched", "resized")}
    unfilled = [entry.name for entry in entries if entry.outcome in ("mismatched", "missing")]
    return {name for name in unfilled if _part(name) in filled and not _DERIVED.search(name)}


def _part(name: str) -> str:
    """The first name of a dotted one; tensors of the network itself (``weight`` beside ``bias``) make one part."""
    return name.split(".")[0] if "." in name else ""


def _directly_in(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def unplaced(model: nn.Module, spare: Mapping[str, Tensor], heads: Iterable[str]) -> list[str]:
    """Tensors of a file that belong to modules or tokens which the model has in another form.

    These are tokens and position tables that the model lacks, and tensors inside modules of the model that have no
    place for them, such as the layer scales, biases or adapters of its blocks and layers, unless they are all zero.

    Args:
        model: The network.
        spare: What of the file found no place, by the names that the model would use.
        heads: Names of the modules that depend on the classes.
    """
    heads = tuple(heads)
    modules = {name for name, _ in model.named_modules() if name}
    closed = {name for name, module in model.named_modules() if name and (_is_block(name) or _is_layer(module))}
    # The last norm goes with pooling, which is judged together with the head.
    aside = {"norm", "fc_norm", "attn_pool", "head", "pooler", *heads}
    found = []
    for name, tensor in spare.items():
        inside = name.rpartition(".")[0]
        if _DERIVED.search(name) or name.split(".")[0] in aside or inside in aside or not tensor.is_floating_point():
            continue
        known = _TOKENS.search(name) is not None or inside in modules or any(each in closed for each in _above(name))
        if known and tensor.numel() and bool(tensor.any()):
            found.append(name)
    return found


def _above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:cut]) for cut in range(1, len(parts))]


def _is_block(name: str) -> bool:
    return name.rpartition(".")[2].isdigit()


def _is_layer(module: nn.Module) -> bool:
    return bool(_directly_in(module)) and not any(True for _ in module.children())
