"""Matching weights to a model by name and shape, and loading them if enough fits."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from models.adapted import Adapted
from models.families import guess_family
from models.positions import made_for
from vision_train.checkpoints.conflicts import Offer, find_conflicts
from vision_train.checkpoints.essential import essential_names, gaps
from vision_train.checkpoints.prefixes import Found, under_prefix
from vision_train.checkpoints.read import Weights, read_weights
from vision_train.checkpoints.report import Entry, LoadReport, Outcome
from vision_train.errors import UserError
from vision_train.wording import percent

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
    found = under_prefix(weights, own, part, heads)
    offer = _adapt(adapt, found.state, model, weights)
    entries = _judged(model, own, offer, heads, {*fresh, *offer.fresh})
    report = _reported(model, weights, found, offer, entries, heads, part)
    if min_matched_share is not None and (refusal := _refusal(report, model, weights, min_matched_share)):
        raise UserError(refusal)
    return report, {name: offer.fitted[name] for name in (*report.matched, *report.resized)}


def _reported(
    model: nn.Module,
    weights: Weights,
    found: Found,
    offer: Offer,
    entries: list[Entry],
    heads: tuple[str, ...],
    part: str,
) -> LoadReport:
    """The report on what becomes of the model's tensors, what of the file is not used, and what speaks against it."""
    own = model.state_dict()
    spare = _spare(offer, own)
    unused = [Entry(name, "unexpected", tuple(tensor.shape), None) for name, tensor in (spare | found.aside).items()]
    inside = {name: tensor for name, tensor in spare.items() if name not in found.beside}
    conflicts = find_conflicts(model, weights, offer, inside, entries, heads)
    loaded = [entry.name for entry in entries if entry.outcome in ("matched", "resized")]
    kept = any(_is_under(name, heads) for name in loaded)
    return LoadReport(
        weights.source,
        guess_family(weights.state),
        (*entries, *unused),
        _not_finite(own, offer, loaded),
        part,
        conflicts.errors,
        (*weights.notes, *offer.notes, *(found.notes if kept else ()), *conflicts.notes),
        classes=offer.classes,
    )


def _judged(
    model: nn.Module, own: Mapping[str, Tensor], offer: Offer, heads: tuple[str, ...], fresh: Collection[str]
) -> list[Entry]:
    """What becomes of every tensor of the model."""
    in_file = {_address(tensor) for tensor in offer.named.values()}
    entries = [
        _judge(name, tensor, offer.named.get(name), offer.fitted.get(name), in_file, _is_under(name, heads))
        for name, tensor in own.items()
    ]
    entries = [_excused(entry) if entry.name in fresh else entry for entry in _whole_heads(entries, heads, fresh)]
    essential = essential_names(model) | {name for name in gaps(entries) if own[name].is_floating_point()}
    return [replace(entry, essential=entry.name in essential) for entry in entries]


def _not_finite(own: Mapping[str, Tensor], offer: Offer, loaded: Iterable[str]) -> tuple[str, ...]:
    """Names of tensors with values that are no numbers, or too large for the model's own type."""
    return tuple(name for name in loaded if not offer.fitted[name].to(own[name].dtype).isfinite().all())


def _adapt(adapt: Adapt | None, found: dict[str, Tensor], model: nn.Module, weights: Weights) -> Offer:
    if adapt is None:
        return Offer(found, found)
    try:
        with made_for(model, weights.image_size):
            offered = adapt(found, model)
    except ValueError as error:
        family = guess_family(weights.state)
        seems = f"; the file looks like {family}" if family else ""
        raise UserError(f"{weights.path}: does not fit {type(model).__name__}{seems} ({error})") from error
    if not isinstance(offered, Adapted):
        return Offer(offered, found)
    return Offer(offered, offered.named, offered.fresh, offered.notes, offered.classes)


def _spare(offer: Offer, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the file without a place in the model; a part of one that is used uses it."""
    starts = sorted({offer.fitted[name].data_ptr() for name in own if name in offer.fitted})
    spare = {}
    for name, tensor in offer.named.items():
        begin = tensor.data_ptr()
        at = bisect_left(starts, begin)
        used = at < len(starts) and starts[at] < begin + max(tensor.numel() * tensor.element_size(), 1)
        if name not in own and not used:
            spare[name] = tensor
    return spare


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
        remedy = f"Name {belongs}, or list under model.fresh what it need not fill"
    theirs, ours = ", ".join(list(weights.state)[:3]), ", ".join(list(model.state_dict())[:3])
    return (
        f"That is less than the {percent(wanted)} asked for (model.min_matched_share). The file looks like {family} "
        f"(it begins with {theirs}; {type(model).__name__} with {ours}). {remedy}"
    )
