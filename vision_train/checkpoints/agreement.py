"""Comparing what is said of the network of weights with the model, where no tensor shows the difference."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from torch import nn

from models.settings import ALIKE, DECODERS, Origin, Settings, settings_of
from vision_train.checkpoints.described import Described
from vision_train.checkpoints.read import Weights

NAME_THE_MODEL = "Name the model that the file belongs to (model.name, model.args)"
SMALL_EPS = 1e-5
"""Norms that add at most this to the variance differ too little for another network."""
_CLIP = re.compile(r"(^|\.)(ln_pre|pre_layrnorm|norm_pre)\.weight$")
"""Only transformers of CLIP have a norm before their blocks."""


class _Difference(NamedTuple):
    """A setting that differs, in words."""

    text: str
    refuses: bool
    """Whether this makes another network."""


def compare_settings(
    model: nn.Module, weights: Weights, described: Sequence[Described], filled: Collection[str]
) -> tuple[list[str], list[str]]:
    """Compare heads of attention, activation, windows and what norms add with what is said of a file's network.

    Args:
        model: The network, or a part of it.
        weights: What was read.
        described: What is said; of each setting, the first that says it counts.
        filled: Names of the model's tensors that the file fills.

    Returns:
        What speaks against the file; and what is assumed, cannot be compared or differs too little.
    """
    notes = [
        f"{each.by} names a network that cannot be built here ({each.unbuilt}), so that heads of attention, activation "
        "and whatever else no tensor shows are not compared"
        for each in described
        if each.unbuilt
    ]
    # A decoder or a block alone has settings of its own.
    if not any(hasattr(module, "get_classifier") for module in model.modules()):
        told = [each.by for each in described if each.settings != Settings()]
        return [], notes + [f"heads of attention and activation that {by} says are not compared" for by in told]
    ours, differences = settings_of(model), []
    if not any(name.startswith(DECODERS) for name in filled):
        ours = ours._replace(decoder_heads=None)
    for key, compare in _COMPARED.items():
        said = next((each for each in described if getattr(each.settings, key) is not None), None)
        if said is not None and getattr(ours, key) is not None:
            found = compare(said.by, getattr(said.settings, key), getattr(ours, key))
            differences += [] if found is None else [found]
    unsaid = all(each.settings.activation is None for each in described)
    if unsaid and ours.activation and any(_CLIP.search(name) for name in weights.state):
        notes.append(
            f"nothing says which activation this tower of CLIP was trained with; this model's {ours.activation} is "
            "assumed (OpenAI trained with quick_gelu, which 'model.args={act_layer: quick_gelu}' sets)"
        )
    errors = [each.text for each in differences if each.refuses]
    return errors, notes + [each.text for each in differences if not each.refuses]


def _heads(by: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> _Difference | None:
    if (pair := _first_differing(theirs, ours)) is None:
        return None
    text = f"{by} says that its attention has {pair[0]} heads, and this model has {pair[1]}. {NAME_THE_MODEL}"
    return _Difference(text, refuses=True)


def _decoder_heads(by: str, theirs: int, ours: int) -> _Difference | None:
    if theirs == ours:
        return None
    text = (
        f"{by} says that attention in its decoders has {theirs} heads, and in this model it has {ours}. Set "
        f"method.decoder.heads={theirs}, or let the decoders start fresh with 'model.fresh=[decoder.*,pixel_decoder.*]'"
    )
    return _Difference(text, refuses=True)


def _activation(by: str, theirs: str, ours: str) -> _Difference | None:
    if theirs == ours:
        return None
    said, remedy = f"{by} says {theirs}, and this model computes {ours}", f"'model.args={{act_layer: {theirs}}}'"
    if {theirs, ours} <= ALIKE:
        text = f"{said}: a difference of less than a thousandth; set {remedy} for the same values"
        return _Difference(text, refuses=False)
    return _Difference(f"{said}, which is another network. Set {remedy}", refuses=True)


def _norm_eps(by: str, theirs: float, ours: float) -> _Difference | None:
    if theirs == ours:
        return None
    said = f"{by} says that norms add {theirs:g} to the variance, and this model adds {ours:g}"
    remedy = f"'model.args={{norm_eps: {theirs:g}}}'"
    if max(theirs, ours) <= SMALL_EPS:
        return _Difference(f"{said}; set {remedy} for the same values", refuses=False)
    return _Difference(f"{said}, which is another network. Set {remedy}", refuses=True)


def _windows(by: str, theirs: tuple[Any, ...], ours: tuple[Any, ...]) -> _Difference | None:
    if (pair := _first_differing(theirs, ours)) is None:
        return None
    # Published networks are often trained further with larger windows.
    text = (
        f"{by} says that attention has windows of {_sides(pair[0])} patches, and in this model they are of "
        f"{_sides(pair[1])}; only the same model.args.window_size and data.image_size give the same values"
    )
    return _Difference(text, refuses=False)


def _origins(by: str, theirs: tuple[Origin, ...], ours: tuple[Origin, ...]) -> _Difference | None:
    # Where neither states any, larger windows are told as such.
    pairs = zip(theirs, ours, strict=False)
    pair = next(
        (pair for pair in pairs if pair[0].window != pair[1].window and any(each.stated for each in pair)), None
    )
    if pair is None:
        return None
    sizes = ", ".join(dict.fromkeys(_sides(each.window) for each in theirs))
    text = (
        f"{by} says that positions are relative to windows of {_sides(pair[0].window)} patches, and in this model to "
        f"windows of {_sides(pair[1].window)}, which is another network. Set "
        f"'model.args={{pretrained_window_sizes: [...]}}' to a size for each stage, which is {sizes}"
    )
    return _Difference(text, refuses=True)


def _first_differing(theirs: tuple[Any, ...], ours: tuple[Any, ...]) -> tuple[Any, Any] | None:
    """The first block in which two networks differ; the longer one is longer for reasons that tensors show."""
    return next((pair for pair in zip(theirs, ours, strict=False) if pair[0] != pair[1]), None)


def _sides(window: tuple[int, int]) -> str:
    return str(window[0]) if window[0] == window[1] else f"{window[0]} x {window[1]}"


_COMPARED: dict[str, Callable[[str, Any, Any], _Difference | None]] = {
    "heads": _heads,
    "activation": _activation,
    "norm_eps": _norm_eps,
    "windows": _windows,
    "origins": _origins,
    "decoder_heads": _decoder_heads,
}
"""Setting -> what compares it."""
