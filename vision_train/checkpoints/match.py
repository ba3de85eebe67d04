"""Matching weights to a model by name and shape, and loading them if enough fits."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from models.adapted import Adapted
from models.families import guess_family
from models.positions import made_for
from vision_train.checkpoints.conflicts import find_conflicts
from vision_train.checkpoints.essential import essential_names
from vision_train.checkpoints.read import Weights, read_weights
from vision_train.checkpoints.report import Entry, LoadReport, Outcome
from vision_train.errors import UserError

Adapt = Callable[[Mapping[str, Tensor], nn.Module], dict[str, Tensor]]
"""Renames and resizes published weights for a model, without side effects; raises ValueError where it cannot. An
``Adapted`` result also tells what the weights were before they were resized."""


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    adapt: Adapt | None = None,
    heads: Iterable[str] = (),
    fresh: Collection[str] = (),
    key: str | None = None,
    min_matched_share: float = 0.9,
) -> LoadReport:
    """Load a weights file into a model, and report what became of every tensor.

    Values are cast to the model's own types and devices. A head is loaded whole or, when any of its tensors is absent
    or of another shape (another number of classes), left whole as it is.

    Args:
        model: Left untouched when the file is refused.
        path: A weights file, folder or run directory, as for :func:`read_weights`.
        adapt: Knows the published names of this kind of model, such as ``models.vit.adapt_published``.
        heads: Names of the modules that depend on the classes, such as ``head``.
        fresh: Names of tensors that need not be filled; heads among them start fresh whatever the file holds.
        key: Which of several networks in the file, as for :func:`read_weights`.
        min_matched_share: Refuse a file that fills less than this share of the parameters outside the heads.

    Raises:
        UserError: The file cannot be read, lacks a tensor that is essential, holds another network, or fills too little
            of the model.
    """
    weights = read_weights(path, key)
    report, state = match_weights(
        model, weights, adapt=adapt, heads=heads, fresh=fresh, min_matched_share=min_matched_share
    )
    model.load_state_dict(state, strict=False)
    return report


def match_weights(
    model: nn.Module,
    weights: Weights,
    *,
    adapt: Adapt | None = None,
    heads: Iterable[str] = (),
    fresh: Collection[str] = (),
    part: str = "",
    min_matched_share: float | None = None,
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Say what would be loaded, and return the tensors that would; changes nothing and takes models on meta.

    Args:
        model: The network, or the part of one that the weights are for.
        weights: What a file holds.
        adapt: As for :func:`load_weights`.
        heads: As for :func:`load_weights`.
        fresh: As for :func:`load_weights`.
        part: Dotted name of the part, for the report.
        min_matched_share: Refuse what :func:`load_weights` would; None only reports.

    Raises:
        UserError: The names cannot be converted for this model, or the weights do not fit and a share is given.
    """
    heads = tuple(heads)
    own = model.state_dict()
    found, beside = _under_prefix(weights.state, own, part)
    family = guess_family(weights.state)
    offered, named = _adapt(adapt, found, model, weights, family)
    essential = essential_names(model)
    in_file = {_address(tensor) for tensor in named.values()}
    entries = [
        replace(
            _judge(name, tensor, named.get(name), offered.get(name), in_file, _is_under(name, heads)),
            essential=name in essential,
        )
        for name, tensor in own.items()
    ]
    entries = [_excused(entry) if entry.name in fresh else entry for entry in _whole_heads(entries, heads, fresh)]
    loaded = {entry.name for entry in entries if entry.outcome in ("matched", "resized")}
    spare = _spare(named, offered, own)
    entries += [Entry(name, "unexpected", tuple(tensor.shape), None) for name, tensor in spare.items()]
    # In the model's own type: a value may also be too large for it.
    not_finite = tuple(
        name for name, tensor in own.items() if name in loaded and not offered[name].to(tensor.dtype).isfinite().all()
    )
    inside = {name: tensor for name, tensor in spare.items() if name not in beside}
    conflicts = find_conflicts(model, weights, named, inside, entries, heads)
    report = LoadReport(weights.source, family, tuple(entries), not_finite, part, conflicts.errors, conflicts.notes)
    if min_matched_share is not None and (refusal := _refusal(report, model, weights, min_matched_share)):
        raise UserError(refusal)
    return report, {name: offered[name] for name in own if name in loaded}


def _adapt(
    adapt: Adapt | None, found: dict[str, Tensor], model: nn.Module, weights: Weights, family: str | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the file offers by the model's names, and the same before anything was resized."""
    if adapt is None:
        return found, found
    try:
        with made_for(model, weights.image_size):
            offered = adapt(found, model)
    except ValueError as error:
        seems = f"; the file looks like {family}" if family else ""
        raise UserError(f"{weights.path}: does not fit {type(model).__name__}{seems} ({error})") from error
    return offered, offered.named if isinstance(offered, Adapted) else found


def _spare(named: Mapping[str, Tensor], offered: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the file without a place in the model; a part of one that is used uses it."""
    starts = sorted({offered[name].data_ptr() for name in own if name in offered})
    spare = {}
    for name, tensor in named.items():
        begin = tensor.data_ptr()
        at = bisect_left(starts, begin)
        used = at < len(starts) and starts[at] < begin + max(tensor.numel() * tensor.element_size(), 1)
        if name not in own and not used:
            spare[name] = tensor
    return spare


def _under_prefix(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], part: str
) -> tuple[dict[str, Tensor], set[str]]:
    """Remove the prefix below which the file keeps most of the model's names (``backbone.``, ``teacher.backbone.``).

    A file of the whole network keeps a part below the part's own name, which counts more: many modules hold a
    ``proj.weight``. Names elsewhere in the file stay as they are, and are returned too: they belong to other networks.
    """
    prefixes: Counter[str] = Counter({"": 0})
    for name in state:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in own:
                prefixes["".join(f"{part}." for part in parts[:cut])] += 1
    named = [candidate for candidate in prefixes if part and f".{candidate}".endswith(f".{part}.")]
    prefix = max(named or prefixes, key=lambda candidate: prefixes[candidate])
    if prefixes[prefix] * 10 < len(own):
        prefix = ""  # a few names alike by chance: another layout
    inside = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    beside = {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}
    return beside | inside, beside.keys() - inside.keys()


def _is_under(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _judge(
    name: str, own: Tensor, before: Tensor | None, after: Tensor | None, in_file: set[tuple[int, int]], head: bool
) -> Entry:
    """Compare one tensor of the model with what the file had under its name and what adapting offers for it."""
    if after is None:
        return Entry(name, "missing", None if before is None else tuple(before.shape), tuple(own.shape), head)
    # A renamed tensor may stand where the file had another one under this name (the stages of an original Swin).
    source = after if before is None or _address(after) in in_file else before
    outcome: Outcome = "matched" if source.shape == after.shape else "resized"
    if after.shape != own.shape or (after.is_complex() and not own.is_complex()):
        outcome = "mismatched"
    return Entry(name, outcome, tuple(source.shape), tuple(own.shape), head)


def _whole_heads(entries: list[Entry], heads: tuple[str, ...], fresh: Collection[str]) -> list[Entry]:
    """Turn every tensor of a head that is not filled completely, or is to start fresh, into a re-initialised one.

    Two heads that answer together (class and distillation token) are one: one of them alone would be averaged with a
    random one.
    """
    unfilled = [head for head in heads if any(_leaves_open(entry, head, fresh) for entry in entries)]
    answering = [head for head in heads if re.fullmatch(r"head(_dist)?", head)]
    if set(unfilled) & set(answering):
        unfilled += answering
    return [
        replace(entry, outcome="reinitialised", head=True) if _is_under(entry.name, unfilled) else entry
        for entry in entries
    ]


def _leaves_open(entry: Entry, head: str, fresh: Collection[str]) -> bool:
    unfilled = entry.outcome in ("mismatched", "missing") or entry.name in fresh
    return unfilled and _is_under(entry.name, [head])


def _excused(entry: Entry) -> Entry:
    """Let a tensor that need not be filled count in no share, and call it fresh where it is not filled."""
    unfilled = entry.outcome in ("missing", "mismatched")
    return replace(entry, outcome="fresh" if unfilled else entry.outcome, fresh=True)


def _address(tensor: Tensor) -> tuple[int, int]:
    """Tell a renamed tensor from one that was dropped: renaming keeps the memory."""
    return tensor.data_ptr(), tensor.numel()


def _refusal(report: LoadReport, model: nn.Module, weights: Weights, wanted: float) -> str | None:
    """Why a recipe may not start from the weights, what matters most first; None where it may."""
    if report.matched_share < wanted:
        return f"{report.summary()}\n{_too_little(report, model, weights, wanted)}"
    if problems := report.problems():
        key = f"model.checkpoint.{report.part}" if report.part else "model.checkpoint"
        return "\n".join([report.summary(), *(f"{key}: {problem}" for problem in problems)])
    return None


def _too_little(report: LoadReport, model: nn.Module, weights: Weights, wanted: float) -> str:
    family = report.family or "no family of networks we know"
    remedy = "These weights belong to a recipe with another model or image size; leave both as they were"
    if wanted < 1:
        belongs = (
            f"the file that belongs to this part (model.checkpoint.{report.part})"
            if report.part
            else ("the model that belongs to the file (model.name, model.args)")
        )
        remedy = (
            f"Name {belongs}, list under model.fresh what it need not fill, or set "
            f"model.min_matched_share={int(report.matched_share * 100) / 100:g} to insist"
        )
    theirs, ours = ", ".join(list(weights.state)[:3]), ", ".join(list(model.state_dict())[:3])
    return (
        f"That is less than the {wanted:.0%} asked for (model.min_matched_share). The file looks like {family} "
        f"(it begins with {theirs}; {type(model).__name__} with {ours}). {remedy}"
    )
