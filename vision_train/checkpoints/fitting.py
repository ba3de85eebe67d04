"""Finding the timm model that weights belong to, by the names and shapes of their tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import timm
from torch import Tensor, nn

from models.vit import adapt_published, head_names
from vision_train.checkpoints.candidates import Candidate, build, candidates
from vision_train.checkpoints.match import match_weights
from vision_train.checkpoints.read import Weights
from vision_train.checkpoints.report import LoadReport
from vision_train.errors import UserError

MOST_MATCHED = 12
"""Models that are compared tensor by tensor, the likeliest first."""
_IDLE = {"training", "p", "momentum", "drop_prob", "scale_by_keep", "inplace", "num_classes", "fused_attn", "attn_drop"}
"""Attributes of modules that change nothing in evaluation."""


@dataclass(frozen=True)
class Fit:
    """A timm model, and what weights would fill of it."""

    name: str
    report: LoadReport
    image_size: int
    """Side of the images that its positions are for, as far as the weights show it."""
    others: tuple[str, ...] = ()
    """Models with the same tensors that compute something else: heads, windows or activations that no tensor shows."""

    @property
    def is_whole(self) -> bool:
        """Whether every tensor outside the head finds its place, in both directions, and nothing speaks against it."""
        return not (self.report.missing or _strange(self.report) or self.report.problems())


def fitting_model(weights: Weights, named: str | None = None) -> Fit | None:
    """The timm model whose tensors agree with the weights best; None where none takes nearly all of them.

    Args:
        weights: What a file holds.
        named: A model that something beside the weights names, which is tried first.
    """
    named = named.partition(".")[0] if named else ""
    own = build(named) if timm.is_model(named) else None
    said = _fit(own, weights) if own is not None else None
    if said is not None and said.is_whole and not said.report.resized:
        return said
    best = said
    whole: list[tuple[Candidate, Fit]] = []
    for candidate in candidates(weights.state)[:MOST_MATCHED]:
        if whole and candidate.distance > whole[0][0].distance:
            break  # has other tensors
        fit = _fit(candidate, weights)
        if fit is None:
            continue
        if fit.is_whole and not fit.report.resized:
            whole.append((candidate, fit))
        best = fit if best is None or _badness(fit) < _badness(best) else best
    if whole:
        return replace(whole[0][1], others=_computing_otherwise([candidate for candidate, _ in whole]))
    return best if best is not None and best.report.matched_share >= 0.99 else None


def _fit(candidate: Candidate, weights: Weights) -> Fit | None:
    network = candidate.network
    try:
        report, _ = match_weights(network, weights, adapt=adapt_published, heads=head_names(network))
    except (UserError, ValueError):  # of another family
        return None
    return Fit(candidate.name, report, _image_size(network, weights.state, candidate.image_size))


def _computing_otherwise(found: Sequence[Candidate]) -> tuple[str, ...]:
    """Names of those that compute something else than the first, and than one another."""
    known = {_computation(found[0].network)}
    names = []
    for candidate in found[1:]:
        computation = _computation(candidate.network)
        if computation not in known:
            names.append(candidate.name)
        known.add(computation)
    return tuple(names)


def _computation(network: nn.Module) -> tuple[Any, ...]:
    """The types of all modules with their settings."""
    return tuple(
        (name, type(module).__name__, *_settings(module))
        for name, module in network.named_modules()
        if not isinstance(module, nn.Dropout | nn.Identity)
    )


def _settings(module: nn.Module) -> list[tuple[str, Any]]:
    plain = [(key, value) for key, value in vars(module).items() if key not in _IDLE and not key.startswith("_")]
    return sorted((key, repr(value)) for key, value in plain if isinstance(value, int | float | str | tuple))


def _image_size(network: Any, state: Mapping[str, Tensor], usual: int) -> int:
    """The side that a table of positions was made for, where there is one."""
    positions = next((each for key, each in state.items() if key.endswith(("pos_embed", "position_embeddings"))), None)
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if positions is None or positions.ndim != 3 or not patch:
        return usual
    for prefix in (0, 1, 2, 5):
        side = math.isqrt(max(positions.shape[1] - prefix, 0))
        if side > 1 and side * side == positions.shape[1] - prefix:
            return side * int(patch[0])
    return usual


def _strange(report: LoadReport) -> list[str]:
    heads = re.compile(r"^(head|fc|classifier|fc_norm|head_dist|pre_logits|norm)\b")
    return [name for name in report.unexpected if not heads.match(name)]


def _badness(fit: Fit) -> tuple[bool, float, int, int]:
    share = fit.report.matched_share
    return bool(fit.report.problems()), 1 - share, len(_strange(fit.report)), len(fit.report.resized)
