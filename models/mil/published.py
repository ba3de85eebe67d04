"""Names of official files for bags, brought to those of the networks, and what the shapes in a file tell."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from models.mil.bags import BagNetwork

_WRAPPERS = re.compile(r"^(?:(?:module|model|_orig_mod)\.)+")


class Architecture(NamedTuple):
    """What the shapes in a file tell about its network."""

    name: str
    """As in ``networks.NETWORKS``."""
    in_features: int
    """D."""
    width: int
    """L."""
    classes: int
    """C."""
    args: dict[str, int | bool]
    """Further arguments of the network."""


def adapt_published(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename published weights for a network for bags; a pure function.

    Official files of ACMIL (GA, MHA), ABMIL, CLAM-SB and TransMIL bear our names already: prefixes that parallel
    training put before them come off. An ACMIL file of a single branch loses that branch's classifier, which had no
    part in predictions.

    Args:
        state: Weights by name.
        model: The network they are meant for; may live on the meta device.

    Raises:
        ValueError: The model is no network for bags.
    """
    if not isinstance(model, BagNetwork):
        raise ValueError(f"{type(model).__name__} is no network for bags")
    named = strip_wrappers(state)
    if "Slide_classifier.fc.weight" in named and "classifier.1.fc.weight" not in named:
        named = {name: weight for name, weight in named.items() if not name.startswith("classifier.0.")}
    return named


def strip_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes that parallel training or compilation put before every name."""
    if not all(_WRAPPERS.match(name) for name in state):
        return dict(state)
    return {_WRAPPERS.sub("", name): weight for name, weight in state.items()}


def infer_architecture(state: Mapping[str, Tensor]) -> Architecture:
    """Tell which network a file belongs to, and its widths, classes and branches; a pure function.

    Args:
        state: Weights by name, as published.

    Raises:
        ValueError: The names are those of no network that we know.
    """
    shapes = {name: tuple(weight.shape) for name, weight in strip_wrappers(state).items()}
    for known in (_infer_acmil, _infer_clam, _infer_transmil):
        if found := known(shapes):
            return found
    begin = ", ".join(list(shapes)[:3]) or "nothing"
    raise ValueError(f"these weights belong to no known network for bags (they begin with {begin})")


def describe(state: Mapping[str, Tensor]) -> dict[str, str]:
    """What a recipe says of the network that weights belong to; nothing where they belong to no known network."""
    try:
        found = infer_architecture(state)
    except ValueError:
        return {}
    args = ", ".join(f"{key}: {json.dumps(value)}" for key, value in ({"width": found.width} | found.args).items())
    keys = f"model.name={found.name} 'model.args={{{args}}}'"
    return {"in a recipe": f"{keys}, for {found.in_features} features an instance and {found.classes} classes"}


def _infer_acmil(shapes: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    """Recognise ACMIL-GA, ACMIL-MHA and ABMIL."""
    embedding, attention = shapes.get("dimreduction.fc1.weight"), shapes.get("attention.attention_weights.weight")
    slide, classifier = shapes.get("Slide_classifier.fc.weight"), shapes.get("classifier.fc.weight")
    if embedding is None:
        return None
    width, in_features = embedding
    if slide and "q" in shapes:
        return Architecture("acmil_mha", in_features, width, slide[0], {"branches": shapes["q"][1]})
    if slide and attention:
        args: dict[str, int | bool] = {"branches": attention[0], "attention_width": attention[1]}
        return Architecture("acmil_ga", in_features, width, slide[0], args)
    if classifier and attention:
        args = {"attention_width": attention[1], "gated": "attention.attention_U.0.weight" in shapes}
        return Architecture("abmil", in_features, width, classifier[0], args)
    return None


def _infer_clam(shapes: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    embedding, attention = shapes.get("attention_net.0.weight"), shapes.get("attention_net.3.attention_a.0.weight")
    classifier = shapes.get("classifiers.weight")
    if not (embedding and attention and classifier):
        return None
    return Architecture("clam_sb", embedding[1], embedding[0], classifier[0], {"attention_width": attention[0]})


def _infer_transmil(shapes: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    embedding, classifier = shapes.get("_fc1.0.weight"), shapes.get("_fc2.weight")
    if not (embedding and classifier and "cls_token" in shapes):
        return None
    return Architecture("transmil", embedding[1], embedding[0], classifier[0], {})
