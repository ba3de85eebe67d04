"""Selective re-initialisation: before a round, chosen tensors of the network are brought back or start anew.

ACTRESS publishes that specific parameters are re-initialised from time to time. Which ones, how, and how often is our
choice. Which tensors a rule names is knowledge of a network, and stands in its recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vision_train.errors import UserError
from vision_train.recipe.globs import matching

Action = Literal["keep", "fresh", "pretrained", "burn_in", "shrink_perturb"]
Weights = Mapping[str, Tensor]
"""A state dict of the network."""


class Reinitialised(NamedTuple):
    """A tensor that was changed; one of several names is listed under the first."""

    name: str
    action: Action
    elements: int
    norm_before: float
    norm_after: float


def fresh_weights(build: Callable[[], nn.Module], seed: int) -> dict[str, Tensor]:
    """Weights that a network's own initialisers give it, the same for the same seed.

    Args:
        build: Builds the network on the CPU, without weights from a file.
        seed: Of this round; torch's random numbers are afterwards where they were.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return dict(build().state_dict())


def chosen_actions(network: nn.Module, rules: Mapping[str, Action], key: str) -> dict[str, Action]:
    """Which tensors of a network the rules change, and how.

    The first rule that matches a tensor decides, by whichever of its names; without one it stays. What is not trained
    stays, since no training could mend it: frozen parameters, and buffers of modules without a trained parameter of
    their own. So do buffers under ``shrink_perturb``, which are statistics and no weights.

    Args:
        network: Its parameters, and the buffers that checkpoints keep.
        rules: By glob over names of tensors, the strongest rule first.
        key: The recipe's key that holds the rules, for messages.

    Returns:
        By first name, in the network's order.

    Raises:
        UserError: A glob matches nothing, only what earlier rules match, or only what its action cannot change.
    """
    tensors, first = _tensors(network)
    chosen: dict[str, Action] = {}
    for glob, action in rules.items():
        found = dict.fromkeys(first[name] for name in matching(glob, list(first), key))
        left = [name for name in found if name not in chosen]
        if not left:
            raise UserError(f"{key}: `{glob}` matches only what earlier rules match; put it before them or remove it")
        chosen.update(dict.fromkeys(left, action))
        if action != "keep" and not any(_changes(network, name, action) for name in left):
            raise UserError(
                f"{key}: `{glob}` matches nothing that `{action}` could change: what it names is frozen "
                "(model.freeze), or holds no weights; remove it"
            )
    return {name: chosen[name] for name in tensors if name in chosen and _changes(network, name, chosen[name])}


@torch.no_grad()
def reinitialise(
    network: nn.Module,
    rules: Mapping[str, Action],
    sources: Mapping[str, Weights],
    key: str,
    *,
    optimizer: Optimizer | None = None,
    shrink: float = 0.5,
    perturb: float = 0.1,
) -> list[Reinitialised]:
    """Change the tensors that the rules choose, in place; all others stay as they are to the bit.

    ``fresh``, ``pretrained`` and ``burn_in`` copy the value of the source of that name: the network's own initialisers
    (:func:`fresh_weights`), what training started from, and what burn-in ended with. ``shrink_perturb`` is
    ``shrink * value + perturb * fresh``, after Ash and Adams, "On Warm-Starting Neural Network Training" (NeurIPS
    2020), with the noise of the initialisers; 0.5 and 0.1 are those of our prototypes.

    Averages of the weights do not follow; build them anew.

    Args:
        network: Bare, not wrapped for several processes.
        rules: As for :func:`chosen_actions`.
        sources: Weights by the name of an action, as far as rules need them; ``shrink_perturb`` needs ``fresh``.
        key: The recipe's key that holds the rules, for messages.
        optimizer: Forgets what it knows of the changed parameters, and nothing else.
        shrink: See above.
        perturb: See above.

    Returns:
        What was changed, each tensor once, in the network's order.

    Raises:
        UserError: As for :func:`chosen_actions`; nothing is changed then.
        ValueError: A source is missing, or does not fit the network; nothing is changed then.
    """
    actions, (tensors, _) = chosen_actions(network, rules, key), _tensors(network)
    values = {name: _source(sources, action, name, tensors[name]) for name, action in actions.items()}
    report = []
    for name, action in actions.items():
        tensor, value = tensors[name], values[name].to(tensors[name].device)
        before = tensor.double().norm().item()
        tensor.copy_(shrink * tensor + perturb * value if action == "shrink_perturb" else value)
        report.append(Reinitialised(name, action, tensor.numel(), before, tensor.double().norm().item()))
        if optimizer is not None:
            optimizer.state.pop(tensor, None)
    return report


def _tensors(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of the network by their first name, and the first name of each name."""
    named = dict(chain(network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False)))
    first_names: dict[int, str] = {}
    first = {name: first_names.setdefault(id(named[name]), name) for name in network.state_dict() if name in named}
    return {name: named[name] for name in first_names.values()}, first


def _changes(network: nn.Module, name: str, action: Action) -> bool:
    module, _, own = name.rpartition(".")
    parameters = dict(network.get_submodule(module).named_parameters(recurse=False))
    if own in parameters:
        return action != "keep" and parameters[own].requires_grad
    return action not in ("keep", "shrink_perturb") and any(each.requires_grad for each in parameters.values())


def _source(sources: Mapping[str, Weights], action: Action, name: str, tensor: Tensor) -> Tensor:
    wanted = "fresh" if action == "shrink_perturb" else action
    value = sources.get(wanted, {}).get(name)
    if value is None or value.shape != tensor.shape:
        found = "are missing" if value is None else f"have the shape {list(value.shape)}, not {list(tensor.shape)}"
        raise ValueError(f"{name}: the `{wanted}` weights that `{action}` needs {found}")
    if value.data_ptr() == tensor.data_ptr() and tensor.numel():
        raise ValueError(f"{name}: the `{wanted}` weights are the network's own and change with it; keep a copy")
    return value
