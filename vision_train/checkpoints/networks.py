"""Choosing one of several networks in a file by a rule that asks what they are for, never which comes first.

Averaged weights are taken before a teacher's, a teacher's before plain ones, and those before a student's: the first
two are what authors evaluate. Networks may stand in containers (``{"model": ..., "model_ema": ...}``) or below prefixes
of one flat state dict (``student.backbone.*`` beside ``teacher.backbone.*``). Prefixes of roles count only where two of
them hold the same tensors, so that a part of a network that is called ``target_generator`` stays a part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vision_train.checkpoints.refused import is_optimiser_state
from vision_train.checkpoints.roles import (
    DEEPEST,
    Role,
    divided,
    is_of_training,
    role_of,
    twins_by_letter,
    without_role,
)
from vision_train.errors import UserError


@dataclass(frozen=True)
class Network:
    """One of the networks that a file holds."""

    place: str
    """Dotted place in the file, which ``model.checkpoint_key`` may name; empty at the top level."""
    state: dict[str, Tensor]
    """Tensors by their names in the network."""
    role: Role = Role.PLAIN

    @property
    def never_began(self) -> bool:
        """Whether it is an average (of torch's ``AveragedModel``) that nothing was averaged into yet."""
        counters = [tensor for name, tensor in self.state.items() if is_counter(name)]
        return bool(counters) and not any(counter.any() for counter in counters)


_CONTAINERS = (
    # `state_dict` before `model`: some files keep the model's name under `model`.
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "module",
    "weights",
    "params",
    "backbone",
    "encoder",
    "state",
)


def is_counter(name: str) -> bool:
    """Whether a tensor is the number of updates that torch's ``AveragedModel`` keeps beside the wrapped module."""
    return name.rpartition(".")[2] == "n_averaged"


def find_networks(content: Any, *, divide: bool = True) -> list[Network]:
    """List the networks in what a file holds.

    Args:
        content: Containers of tensors.
        divide: Divide flat state dicts by the roles in their prefixes; else each container is one network.
    """
    averaging = content.get("averaging_state") if isinstance(content, dict) else None
    found = []
    for place, state in _containers(content, ()):
        if isinstance(averaging, dict) and place == ("state_dict",):
            # Lightning's WeightAveraging puts the average here, the trained weights under `current_model_state`.
            counter = averaging.get("n_averaged")
            state |= {"n_averaged": counter} if isinstance(counter, Tensor) else {}
            found.append(Network("state_dict", state, Role.AVERAGED))
            continue
        roles = [role for name in place if (role := role_of(name)) is not Role.PLAIN]
        role = roles[0] if roles else Role.PLAIN
        split = _by_prefix(place, state) if divide and not roles else []
        found += split or [Network(".".join(place), state, role)]
    return found


def choose_network(networks: Sequence[Network], file: Path) -> Network:
    """Take the network that the rule of this module prefers.

    Raises:
        UserError: The rule has no preference among several.
    """
    eligible = [network for network in networks if _stands_for_all(network, networks)] or list(networks)
    eligible = [network for network in eligible if not network.never_began] or eligible
    best = [network for network in eligible if network.role is min(each.role for each in eligible)]
    known = sorted((network for network in best if _order(network) is not None), key=lambda each: _order(each) or 0)
    chosen = known[0] if known and best[0].role is Role.PLAIN else best[0]
    rivals = [network for network in best if network is not chosen]
    doubtful = not known or chosen.role is not Role.PLAIN
    if any((doubtful or _are_twins(network, chosen)) and not _are_equal(network, chosen) for network in rivals):
        raise UserError(
            f"{file}: holds several networks ({_places(networks)}) and nothing says which one is wanted; "
            f"name it with model.checkpoint_key, as in model.checkpoint_key={chosen.place or networks[-1].place} "
            f"(`inspect` takes --key {chosen.place or networks[-1].place})"
        )
    return chosen


def said_of_averages(chosen: Network, networks: Sequence[Network]) -> tuple[str, ...]:
    """Which averages nothing was averaged into, as sentences; they are taken only where there is nothing else."""
    empty = [network for network in networks if network.never_began]
    if chosen.never_began:
        return (f"the average in {_place(chosen)} never began (n_averaged = 0): these are the weights it started with",)
    return tuple(f"{_place(network)} is not taken: its average never began (n_averaged = 0)" for network in empty)


def places_of_twins(network: Network, networks: Sequence[Network]) -> tuple[str, ...]:
    """Places of the other networks of a file that hold the same tensors with other values."""
    twins = [other for other in networks if other.place != network.place and _are_twins(network, other)]
    return tuple(other.place for other in twins if other.place)


def named_network(content: Any, key: str, file: Path, *, divide: bool = True) -> Network:
    """Take the network at a place, or what lies below a prefix of names.

    Where the key names a place that holds several networks, the rule decides among them.

    Args:
        content: Containers of tensors.
        key: The dotted place or its end, such as ``teacher`` for ``model.teacher``.
        file: For messages.
        divide: As for :func:`find_networks`.

    Raises:
        UserError: The key fits nothing in the file, or several networks.
    """
    networks = find_networks(content, divide=divide)
    exact = [network for network in networks if network.place == key]
    found = exact or [network for network in networks if network.place.endswith(f".{key}")]
    if not found:
        whole = find_networks(content, divide=False)
        found = [inside for network in whole if (inside := _below(network, key)).state]
        if len(found) == 1 and divide and found[0].role is Role.PLAIN and role_of(key) is Role.PLAIN:
            return choose_network(_by_prefix(tuple(key.split(".")), found[0].state) or found, file)
    if len(found) == 1:
        return found[0]
    what = "more than one network" if found else "no network"
    raise UserError(
        f"{file}: model.checkpoint_key={key} names {what} of this file (`inspect` takes it as --key); there are "
        f"{_places(networks)}"
    )


def plain(content: Mapping[Any, Any]) -> dict[Any, Any]:
    """A dict without the attributes that a file may set on an OrderedDict, which could hide its methods."""
    return dict(dict.items(content))  # type: ignore[arg-type]


def _containers(content: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every container of tensors and its place, but for those of optimisers and the like."""
    if not isinstance(content, dict) or len(place) > DEEPEST:
        return
    content = plain(content)
    if is_optimiser_state(content):
        return
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    # A lone tensor beside other things is a counter, not a network.
    if state and len(state) * 2 > len(content):
        yield place, state
    for name, inside in content.items():
        if isinstance(name, str) and not is_of_training(name):
            yield from _containers(inside, (*place, name))


def _by_prefix(place: tuple[str, ...], state: dict[str, Tensor]) -> list[Network]:
    """Divide a flat state dict by the roles in its prefixes; nothing where it holds only one network."""
    groups: dict[tuple[str, Role], dict[str, Tensor]] = defaultdict(dict)
    letters = twins_by_letter(state)
    for name, tensor in state.items():
        parts = name.split(".")
        roles = [letters.get(".".join(parts[: at + 1]), role_of(part)) for at, part in enumerate(parts[:-1][:DEEPEST])]
        cut = next((at for at, role in enumerate(roles) if role is not Role.PLAIN), None)
        if cut is None:
            groups[".".join(place), Role.PLAIN][name] = tensor
            continue
        part = parts[cut]
        if ".".join(parts[: cut + 1]) in letters:
            inner, _, label = part.rpartition("_")
        else:
            inner = without_role(part)
            label = divided(part)[1] if inner else part
        key = ".".join((*place, *parts[:cut], label))
        groups[key, roles[cut]][".".join(([inner] if inner else []) + parts[cut + 1 :])] = tensor
    networks = [Network(key, tensors, role) for (key, role), tensors in groups.items()]
    twins = [network for network in networks if any(_are_twins(network, other) for other in networks)]
    return twins if len(twins) > 1 else []


def _signature(network: Network) -> Counter[tuple[str, torch.Size]]:
    """Ends of names and shapes: what stays the same below other prefixes."""
    return Counter((".".join(name.split(".")[-2:]), tensor.shape) for name, tensor in network.state.items())


def _are_twins(one: Network, other: Network) -> bool:
    """Whether most tensors of the smaller one have a counterpart in the other."""
    if one is other:
        return False
    ours, theirs = _signature(one), _signature(other)
    return (ours & theirs).total() * 2 > min(ours.total(), theirs.total())


def _are_equal(one: Network, other: Network) -> bool:
    same = one.state.keys() == other.state.keys()
    return same and all(torch.equal(tensor, other.state[name]) for name, tensor in one.state.items())


def _stands_for_all(network: Network, networks: Sequence[Network]) -> bool:
    """Whether a network with a role is another's twin, or is called by the role alone and large; else it is a part.

    A ``target`` that holds but a mean and a deviation is no teacher.
    """
    if network.role is Role.PLAIN or any(_are_twins(network, other) for other in networks):
        return True
    if len(network.state) * 2 < max(len(other.state) for other in networks):
        return False
    return any(
        without_role(part) in ("", *_CONTAINERS) for part in network.place.split(".") if role_of(part) != Role.PLAIN
    )


def _order(network: Network) -> int | None:
    """Place of a plain network among the names that files use; the top level comes after all of them."""
    first = network.place.split(".")[0]
    if not first:
        return len(_CONTAINERS)
    return _CONTAINERS.index(first) if first in _CONTAINERS else None


def _place(network: Network) -> str:
    return f"`{network.place}`" if network.place else "the top level"


def _places(networks: Sequence[Network]) -> str:
    places = [_place(network) for network in networks]
    return ", ".join(places[:8]) + (f" and {len(places) - 8} more" if len(places) > 8 else "")


def _below(network: Network, key: str) -> Network:
    """What the names of a network hold below a prefix, wherever it stands in them."""
    inside = {}
    for name, tensor in network.state.items():
        _, found, rest = f".{network.place}.{name}".partition(f".{key}.")
        if found:
            inside[rest] = tensor
    return Network(key, inside, network.role)
