"""Finding where in a file a model's names stand, below which prefix, and whether only one network stands there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vision_train.checkpoints.read import Weights
from vision_train.errors import UserError


class Found(NamedTuple):
    """What of a file is for the model."""

    state: dict[str, Tensor]
    """Tensors with the prefix taken off, and those elsewhere in the file under their whole names."""
    beside: set[str]
    """Names in ``state`` that stood elsewhere: they belong to other networks."""
    aside: dict[str, Tensor]
    """Tensors elsewhere in the file that bear names of the model by chance, and are not offered to it."""
    notes: tuple[str, ...]
    """What is taken from elsewhere, as sentences."""


def under_prefix(weights: Weights, own: Mapping[str, Tensor], part: str, heads: Collection[str]) -> Found:
    """Take off the prefix below which the file keeps most of the model's names (``backbone.``, ``teacher.backbone.``).

    A file of the whole network keeps a part below the part's own name, which counts more: many modules hold a
    ``proj.weight``. Of what stands elsewhere in the file only a classifier is taken, where there is none inside.

    Args:
        weights: What was read.
        own: The tensors of the model.
        part: Dotted name of the part of the network that the model is.
        heads: Names of the modules that depend on the classes.

    Raises:
        UserError: Several networks of the same names stand below different prefixes.
    """
    below = _by_prefix(weights.state, own)
    named = [prefix for prefix in below if part and f".{prefix}".endswith(f".{part}.")]
    ranked = sorted(named or below, key=lambda prefix: _rank(below[prefix], own), reverse=True)
    prefix = ranked[0]
    if len(below[prefix]) * 10 < len(own):
        prefix = ""  # a few names alike by chance: another layout
    else:
        _check_rivals(weights, own, {each: below[each] for each in ranked}, part, heads)
    inside = {name.removeprefix(prefix): tensor for name, tensor in weights.state.items() if name.startswith(prefix)}
    others = {name: tensor for name, tensor in weights.state.items() if not name.startswith(prefix)}
    kept, note = _heads_beside(inside, others, heads, prefix)
    aside = {name: tensor for name, tensor in others.items() if name in own and name not in kept}
    beside = {name: tensor for name, tensor in others.items() if name not in aside}
    return Found(beside | inside, beside.keys() - inside.keys(), aside, note)


def _by_prefix(state: Mapping[str, Tensor], own: Collection[str]) -> dict[str, dict[str, Tensor]]:
    """Every prefix below which names of the model stand, with their tensors."""
    below: dict[str, dict[str, Tensor]] = defaultdict(dict, {"": {}})
    for name, tensor in state.items():
        parts = name.split(".")
        for cut in range(len(parts)):
            if (inner := ".".join(parts[cut:])) in own:
                below["".join(f"{part}." for part in parts[:cut])][inner] = tensor
    return below


def _rank(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[int, int]:
    return len(found), sum(tensor.shape == own[name].shape for name, tensor in found.items())


def _check_rivals(
    weights: Weights,
    own: Mapping[str, Tensor],
    ranked: Mapping[str, Mapping[str, Tensor]],
    part: str,
    heads: Collection[str],
) -> None:
    """Refuse a file with another network of these names and shapes and other values, of which the order would decide.

    A rival lacks nothing of the first but its head. A decoder beside an encoder, which has blocks of the same names and
    no patch embedding, is none.
    """
    (prefix, taken), *rest = ranked.items()
    needed = {name for name in taken if not name.startswith(tuple(f"{head}." for head in heads))}
    for other, found in rest:
        alike = [name for name, tensor in found.items() if name in taken and tensor.shape == taken[name].shape]
        rival = needed <= found.keys() and len(alike) * 2 > len(taken)
        equal = alike and all(torch.equal(found[name], taken[name]) for name in alike)
        if (rival or _rank(found, own) == _rank(taken, own)) and not equal:
            places = " and ".join(f"`{each.rstrip('.')}`" if each else "the top level" for each in (prefix, other))
            key = f"model.checkpoint_key.{part}" if part else "model.checkpoint_key"
            raise UserError(
                f"{weights.path}: holds several networks of the same names, below {places}, and nothing says which one "
                f"is wanted; name it with {key}, as in {key}={(prefix or other).rstrip('.')}"
            )


def _heads_beside(
    inside: Mapping[str, Tensor], others: Mapping[str, Tensor], heads: Collection[str], prefix: str
) -> tuple[set[str], tuple[str, ...]]:
    """Names of classifiers that stand outside the prefix, where none stands inside, and a sentence on them."""

    def of(head: str, names: Collection[str]) -> list[str]:
        return [name for name in names if name.startswith(f"{head}.")]

    kept = [name for head in heads if not of(head, inside.keys()) for name in of(head, others.keys())]
    if not kept:
        return set(), ()
    where = ", ".join(kept[:2])
    return set(kept), (f"the head is taken from {where}, which stand outside `{prefix.rstrip('.')}` in the file",)
