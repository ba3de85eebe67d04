"""Finding the weights inside what a checkpoint file, a folder of one or a run directory holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from models.lora import merged
from vision_train.checkpoints.conventions import said_in_run
from vision_train.checkpoints.facts import plain_facts
from vision_train.checkpoints.folders import WeightsFiles, weights_files
from vision_train.checkpoints.formats import OURS, open_weights
from vision_train.checkpoints.networks import (
    Network,
    choose_network,
    find_networks,
    is_counter,
    named_network,
    places_of_twins,
    plain,
    said_of_averages,
)
from vision_train.checkpoints.refused import check_state, without_weights
from vision_train.checkpoints.roles import Role
from vision_train.errors import UserError

_WRAPPERS = ("module.", "network.", "model.", "backbone.")
_INNER_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch puts into names where a part of the network is compiled, sharded or computed twice."""


@dataclass(frozen=True)
class Weights:
    """Weights by plain name, and where they came from."""

    state: dict[str, Tensor]
    """CPU tensors, possibly mapped from the file: copy them, do not write to them."""
    path: Path
    """The file that was read: for a run directory its best checkpoint, for shards their index."""
    file_format: str
    """``safetensors``, ``torch`` or ``torch before 1.6``."""
    container: str
    """Where in the file they were, such as ``model_ema`` or ``model.teacher``; empty at the top level."""
    classes: list[str] | None = None
    """The label map, where the file keeps one (ours do)."""
    recipe: dict[str, Any] | None = None
    """The resolved recipe as plain values, where the file keeps one (ours do)."""
    role: Role = Role.PLAIN
    """What the network is among those of its training."""
    others: tuple[str, ...] = ()
    """Places of other networks in the file, which ``model.checkpoint_key`` may name."""
    beside: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What configuration files beside the weights say, by their names, where they belong to these weights."""

    facts: dict[str, Any] = field(default_factory=dict)
    """What else the file keeps beside tensors, as plain values: numbers, texts, lists and mappings of them."""
    notes: tuple[str, ...] = ()
    """What to know of the choice among the networks in the file."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the images that the weights were made for, where an earlier run of ours says them."""
        size: int | tuple[int, int] | None = said_in_run(self.recipe).get("image_size")
        return (size, size) if isinstance(size, int) else size

    @property
    def source(self) -> str:
        """What was taken, in words: ``averaged weights of runs/digits/0/checkpoints/best.ckpt``."""
        ours = self.facts.get(OURS) is True
        place = f"`{self.container}` of {self.path}" if self.container and not ours else str(self.path)
        if self.role is Role.AVERAGED:
            place = f"averaged weights of {self.path}"
        if self.role is Role.TEACHER:
            place = f"the teacher's weights, {place}"
        if not self.others:
            return place
        named = f" (`{self.container}`)" if self.role is Role.AVERAGED else ""
        places = ", ".join(f"`{other}`" for other in self.others[:4])
        return f"{place}{named}, not those of {places} (model.checkpoint_key names another)"


def read_weights(path: str | Path, key: str | None = None) -> Weights:
    """Read weights without executing code from the file.

    Understands safetensors, files of ``torch.save``, folders as model hubs keep them, sharded weights, our own
    checkpoints and run directories. Of several networks in one file it takes the averaged one, else the teacher, else
    the plain one (:mod:`vision_train.checkpoints.networks`). Prefixes that every name carries (``module.``,
    ``network.``, ...) are removed. Low-rank adapters of our own checkpoints (``model.lora``) are merged into what they
    adapt.

    Args:
        path: A weights file, the index of shards, a folder that holds one set of weights, or a run directory, which
            stands for its ``checkpoints/best.ckpt``.
        key: Place of the network in the file; else the rule decides.

    Raises:
        UserError: Nothing is there, the file is damaged or foreign, would run code, holds no weights, or holds several
            networks among which the rule does not decide.
    """
    found = weights_files(path)
    content, file_format = _open(found)
    if not isinstance(content, dict):
        raise without_weights(found.path, content)
    content = plain(content)
    divide = not _is_ours(content)
    networks = find_networks(content, divide=divide)
    if not networks:
        raise without_weights(found.path, content)
    if key is None:
        network = choose_network(networks, found.path)
    else:
        network = named_network(content, key, found.path, divide=divide)
    state, recipe = _without_wrappers(network, content), _recipe_of(content)
    if recipe and (recipe.get("model") or {}).get("lora"):
        state = merged(state)
    check_state(found.path, state)
    return Weights(
        state,
        found.path,
        file_format,
        network.place,
        _classes_of(content),
        recipe,
        network.role,
        () if _is_ours(content) else places_of_twins(network, networks),
        found.companions(),
        plain_facts(content),
        said_of_averages(network, networks),
    )


def _open(found: WeightsFiles) -> tuple[Any, str]:
    if found.places is None:
        return open_weights(found.path)
    merged: dict[str, Any] = {}
    file_format = ""
    for file in found.files:
        content, file_format = open_weights(file)
        wanted = [name for name, place in found.places.items() if place == file.name]
        absent = [name for name in wanted if name not in content]
        if absent:
            raise UserError(
                f"{file}: lacks {len(absent)} tensors that {found.path.name} places in it, such as {absent[0]}; "
                "copy or download it again"
            )
        merged |= {name: content[name] for name in wanted}
    return merged, f"{file_format} in {len(found.files)} shards"


def _is_ours(content: Mapping[str, Any]) -> bool:
    if content.get(OURS) is True:
        return True
    known = "pytorch-lightning_version" in content
    return known and ("averaged" in content or _recipe_of(content) is not None)


def _recipe_of(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recipe, if it is one of ours: a mapping of sections. Others may keep under this name what they like."""
    recipe = content.get("recipe")
    if not isinstance(recipe, dict):
        return None
    sections = [recipe.get(section, {}) for section in ("data", "model")]
    sections.append((sections[1].get("args") or {}) if isinstance(sections[1], dict) else None)
    return recipe if all(isinstance(section, dict) for section in sections) else None


def _classes_of(content: Mapping[str, Any]) -> list[str] | None:
    classes = content.get("classes")
    return classes if isinstance(classes, list) and all(isinstance(name, str) for name in classes) else None


def _without_wrappers(network: Network, content: Mapping[str, Any]) -> dict[str, Tensor]:
    if content.get(OURS) is True:
        return network.state
    state = _without_inner_wrappers(network.state)
    if "pytorch-lightning_version" not in content:
        return _unwrap(state)
    if network.place == "averaged":
        return state  # our own: plain names already, even where those begin like a wrapper's
    # Beside its network, a LightningModule may keep metrics and buffers of its loss.
    inside = {name.removeprefix("network."): weight for name, weight in state.items() if name.startswith("network.")}
    return inside or _unwrap(state)


def _without_inner_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    plain_names = {_INNER_WRAPPERS.sub("", name): weight for name, weight in state.items()}
    # Where two would get the same name, both stay what they are.
    return plain_names if len(plain_names) == len(state) else state


def _unwrap(state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {name: weight.detach() for name, weight in state.items() if not is_counter(name)}
    for prefix in _WRAPPERS * 2:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): weight for name, weight in state.items()}
    return state
