"""What a recipe trains of a network: all of it, what its globs leave, its head alone, or low-rank adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from models.lora import adapter_names, add_adapters
from vision_train.errors import UserError
from vision_train.optim.freezing import Frozen, freeze_at_first, freeze_parameters, names_to_freeze
from vision_train.recipe.globs import all_matching
from vision_train.recipe.sections import ALL_BUT_HEAD, Model


def choose_trained(
    network: nn.Module, model: Model, *, heads: Sequence[str], adaptable: Callable[[], Sequence[str]]
) -> Frozen:
    """Freeze what ``model.freeze`` or ``model.lora`` excludes, and add adapters, in place.

    Adapters rename tensors, so weights have to be loaded before. The head and what ``model.fresh`` names are trained
    whole beside adapters, and never adapted.

    Args:
        network: The network.
        model: The recipe's section.
        heads: Names of the modules that depend on the classes.
        adaptable: Names the linear layers that adapters may change; called where the recipe wants adapters.

    Returns:
        What is frozen; what ``model.freeze_first`` names is yet to be, by :class:`ReleaseFrozen`.

    Raises:
        UserError: A glob matches no parameter, nothing is left to train, or the network cannot be adapted so.
    """
    modules = freeze_parameters(network, _names_to_freeze(network, model, heads=heads, adaptable=adaptable))
    if model.freeze_first is None:
        return Frozen(modules)
    key, globs = "model.freeze_first.names", model.freeze_first.names
    if isinstance(globs, list):
        return freeze_at_first(network, names_to_freeze(network, globs, key), modules)
    return freeze_at_first(network, _all_but(_trained_whole(network, model, heads), network, key), modules)


def _names_to_freeze(
    network: nn.Module, model: Model, *, heads: Sequence[str], adaptable: Callable[[], Sequence[str]]
) -> set[str]:
    if model.lora is None and model.freeze != ALL_BUT_HEAD:
        assert isinstance(model.freeze, list)
        return names_to_freeze(network, model.freeze)
    trained = _trained_whole(network, model, heads)
    if model.lora is not None:
        inside = tuple(name.rpartition(".")[0] for name in trained)
        _adapt(network, [name for name in adaptable() if name not in inside], model.lora.rank)
    else:
        return _all_but(trained, network, "model.freeze")
    names = [name for name, _ in network.named_parameters()]
    return set(names) - trained - adapter_names(names)


def _all_but(trained: set[str], network: nn.Module, key: str) -> set[str]:
    if not trained:
        raise UserError(
            f"{key}={ALL_BUT_HEAD}: {type(network).__name__} has no head, so nothing is trained; name what to "
            "freeze by globs"
        )
    return {name for name, _ in network.named_parameters()} - trained


def _trained_whole(network: nn.Module, model: Model, heads: Sequence[str]) -> set[str]:
    """Names of the parameters that are trained themselves: those of the head, and fresh ones."""
    fresh = set(all_matching(model.fresh, list(network.state_dict()), "model.fresh"))
    names = [name for name, _ in network.named_parameters()]
    return {name for name in names if name in fresh or any(name.startswith(f"{head}.") for head in heads)}


def _adapt(network: nn.Module, layers: Sequence[str], rank: int) -> None:
    if not layers:
        raise UserError(
            f"model.lora: {type(network).__name__} has no linear layers of attention or MLPs to adapt; take a vision "
            "transformer, or leave it null"
        )
    try:
        add_adapters(network, layers, rank)
    except ValueError as error:
        raise UserError(f"model.lora.rank: {error}") from error
    except ImportError as error:
        raise UserError("model.lora: needs the package peft; pip install 'vision-train[adapters]'") from error
    for parameter in network.parameters():
        parameter.requires_grad_(True)  # peft froze the head too; what stays frozen is decided in one place
