"""Signs that a file holds another network than the model, although tensors of the same names and shapes fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from models.heads import POOLING_WORDS, last_norms, pooling_of, pooling_of_names
from vision_train.checkpoints.agreement import NAME_THE_MODEL, compare_settings
from vision_train.checkpoints.described import Described, descriptions
from vision_train.checkpoints.essential import unplaced
from vision_train.checkpoints.read import Weights
from vision_train.checkpoints.report import Entry


class Offer(NamedTuple):
    """What a file offers a model."""

    fitted: Mapping[str, Tensor]
    """Tensors by the model's names, resized where they had to be."""
    named: Mapping[str, Tensor]
    """The same before anything was resized, by the names that published files have."""
    fresh: frozenset[str] = frozenset()
    """Names of the model's tensors that networks of the file's kind do not have."""
    notes: tuple[str, ...] = ()
    """What to know of the translation, as sentences."""
    classes: tuple[str, ...] | None = None
    """The classes that heads know as they are offered, where the translation says them."""


class Conflicts(NamedTuple):
    """What speaks against a file."""

    errors: tuple[str, ...]
    """Each with what to do."""
    notes: tuple[str, ...]
    """What is assumed, and differences too small to matter."""


def find_conflicts(
    model: nn.Module,
    weights: Weights,
    offer: Offer,
    spare: Mapping[str, Tensor],
    entries: Sequence[Entry],
    heads: tuple[str, ...],
) -> Conflicts:
    """Compare what a file says or implies of its network with the model.

    Args:
        model: The network.
        weights: What was read.
        offer: What the file offers.
        spare: Those of its tensors that have no place in the model.
        entries: What became of the model's tensors.
        heads: Names of the modules that depend on the classes.
    """
    described = descriptions(weights)
    filled = {entry.name for entry in entries if entry.outcome in ("matched", "resized")}
    errors, notes = compare_settings(model, weights, described, filled)
    deeper = _blocks_beyond(model, [*spare, *offer.fitted], heads)
    within = {
        name: tensor for name, tensor in spare.items() if not name.startswith(tuple(f"{each}." for each in deeper))
    }
    if strange := unplaced(model, within, heads):
        errors.append(
            f"The network of the file has {_some(strange)}, for which {type(model).__name__} has no place. "
            f"{NAME_THE_MODEL}"
        )
    if middle := [block for block in deeper if not _is_last(model, block, heads)]:
        errors.append(
            f"The network of the file has more blocks, {_some(middle)}, in the middle of {type(model).__name__}. "
            f"{NAME_THE_MODEL}"
        )
    elif deeper:
        notes.append(f"the network of the file is deeper: its {', '.join(deeper[:3])} and what follows are not used")
    if kept := _kept(entries, heads):
        reasons = _other_input(model, described, offer.named, spare, filled)
        if deeper:
            reasons.append(f"blocks before it ({deeper[0]}) are not used")
        if reasons:
            globs = ",".join(f"{name}.*" for name in dict.fromkeys(kept))
            errors.append(
                f"The head ({', '.join(kept)}) would be kept although what it reads is another: {'; '.join(reasons)}. "
                f"{NAME_THE_MODEL}, or let the head start fresh with 'model.fresh=[{globs}]'"
            )
    return Conflicts(tuple(errors), tuple(notes))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _kept(entries: Iterable[Entry], heads: tuple[str, ...]) -> list[str]:
    """Classifiers that the file fills."""
    filled = {entry.name.rpartition(".")[0] for entry in entries if entry.outcome == "matched" and entry.head}
    return [head for head in heads if head in filled and not head.endswith("norm")]


def _other_input(
    model: nn.Module,
    described: Sequence[Described],
    named: Mapping[str, Tensor],
    spare: Mapping[str, Tensor],
    filled: Collection[str],
) -> list[str]:
    """Why a kept head would read another vector than the one it was trained on."""
    reasons = [f"{norm} before it is not in the file" for norm in last_norms(model) if f"{norm}.weight" not in filled]
    reasons += [f"the file's {norm} is not used" for norm in ("norm", "fc_norm") if f"{norm}.weight" in spare]
    said = next((each.pooling for each in described if each.pooling), None)
    theirs, ours = pooling_of_names(named) or said, pooling_of(model)
    if theirs and ours and theirs != ours:
        in_words = {theirs, ours} <= POOLING_WORDS.keys()
        words = [POOLING_WORDS[pooling] if in_words else pooling for pooling in (theirs, ours)]
        reasons.append(f"the file's network pools by {words[0]}, this one by {words[1]} (model.args.global_pool)")
    if "dist_token" in spare:
        reasons.append("the distillation token is dropped")
    return reasons


def _blocks_beyond(model: nn.Module, names: Iterable[str], heads: tuple[str, ...]) -> list[str]:
    """Blocks of the file with a number that none of the model's own has."""
    own = {name for name, _ in model.named_modules()}
    lists = {block.rpartition(".")[0] for block in _blocks(model, heads)}
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for at in range(1, len(parts) - 1):
            block = ".".join(parts[: at + 1])
            if parts[at].isdigit() and ".".join(parts[:at]) in lists and block not in own:
                found[block] = None
    return list(found)


def _blocks(model: nn.Module, heads: tuple[str, ...]) -> list[str]:
    """Numbered modules outside the heads, in the model's order."""
    names = [name for name, _ in model.named_modules() if name.rpartition(".")[2].isdigit()]
    return [name for name in names if not f"{name}.".startswith(tuple(f"{head}." for head in heads))]


def _is_last(model: nn.Module, block: str, heads: tuple[str, ...]) -> bool:
    """Whether a block of the file would follow the last of the model's own, and not stand between them."""
    return _blocks(model, heads)[-1].startswith(f"{block.rpartition('.')[0]}.")
