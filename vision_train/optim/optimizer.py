"""The optimiser of a network and its groups of parameters.

Parameter groups, layer decay and the optimisers themselves are timm's; here they meet the recipe's ``optim`` section.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

from pytorch_lightning.utilities.types import OptimizerLRScheduler
from timm.optim import create_optimizer_v2, get_optimizer_class, list_optimizers
from torch import nn
from torch.optim import Optimizer

from vision_train.errors import UserError
from vision_train.optim.schedule import RELEASED, build_schedule, count_frozen_steps
from vision_train.recipe.globs import all_matching, matching
from vision_train.recipe.optim_section import Optim
from vision_train.recipe.recipe import Recipe

OWN = ("lr", "initial_lr", "weight_decay", "betas", "fused")
"""Settings of a group that the recipe and the device say, and a checkpoint therefore need not."""


def learning_rate_factor(options: Optim, effective_batch: int) -> float:
    """Linear scaling of the learning rates with the effective batch (Goyal et al., 2017); 1 where none is asked for."""
    return effective_batch / options.lr_reference_batch if options.lr_reference_batch else 1.0


def check_lr_factors(network: nn.Module, options: Optim) -> dict[str, float]:
    """Return the factor of ``optim.lr_factors`` by parameter name, for those that a glob matches; the last match wins.

    Raises:
        UserError: A glob matches no parameter.
    """
    names = [name for name, _ in network.named_parameters()]
    return {
        name: factor
        for glob, factor in options.lr_factors.items()
        for name in matching(glob, names, "optim.lr_factors")
    }


def check_names(network: nn.Module, options: Optim) -> None:
    """Refuse globs of ``lr_factors`` and ``decay_also`` that match no parameter.

    Raises:
        UserError: One does.
    """
    check_lr_factors(network, options)
    _decayed(network, options)


def _decayed(network: nn.Module, options: Optim) -> set[int]:
    """Ids of the parameters that ``decay_also`` names."""
    named = dict(network.named_parameters())
    return {id(named[name]) for name in all_matching(options.decay_also, named, "optim.decay_also")}


def build_optimizer(
    network: nn.Module,
    options: Optim,
    *,
    effective_batch: int,
    mixed: bool = False,
    frozen_at_first: Collection[str] = (),
) -> Optimizer:
    """Build the optimiser with its parameter groups.

    Weight decay spares biases, norms and what the network's ``no_weight_decay`` names, but for those that
    ``decay_also`` names. Each group carries its learning
    rate already scaled: by ``layer_decay ** (distance from the head)`` and by ``lr_factors``. Parameters whose settings
    are equal share a group, since every group costs time in every step.

    Args:
        network: Its trainable parameters are optimised.
        options: The recipe's ``optim`` section.
        effective_batch: Images per optimiser step over all processes, for linear learning-rate scaling.
        mixed: Whether precision is mixed, under which Lightning clips no gradients for a fused step.
        frozen_at_first: Names of parameters that are trained later than the others; they have groups of their own.

    Raises:
        UserError: The optimiser does not exist or refuses its options, the network has no layers that a decay
            could be spread over, or a glob of ``lr_factors`` or ``decay_also`` matches no parameter.
    """
    if options.name.lower() not in list_optimizers():
        raise UserError(
            f"optim.name={options.name}: timm knows no such optimiser; common ones are adamw, sgd, lamb, lion"
        )
    if options.layer_decay is not None and not hasattr(network, "group_matcher"):
        raise UserError(
            f"optim.layer_decay={options.layer_decay}: {type(network).__name__} does not say how its layers follow one "
            "another; set optim.layer_decay=null"
        )
    named, decayed = check_lr_factors(network, options), _decayed(network, options)
    extra: dict[str, Any] = {"betas": options.betas} if options.betas else {}
    if not mixed and can_fuse(network, options.name):
        extra["fused"] = True
    try:
        optimizer = create_optimizer_v2(
            network,
            opt=options.name,
            lr=options.lr * learning_rate_factor(options, effective_batch),
            weight_decay=options.weight_decay,
            layer_decay=options.layer_decay,
            **extra,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"optim.name={options.name}: refuses its options: {error}") from error
    factors = {id(parameter): named[name] for name, parameter in network.named_parameters() if name in named}
    decays = dict.fromkeys(decayed, options.weight_decay)
    later = {id(parameter) for name, parameter in network.named_parameters() if name in frozen_at_first}
    optimizer.param_groups[:] = _merged(optimizer.param_groups, factors, decays, later)
    optimizer.register_load_state_dict_pre_hook(_keep_own_settings)
    return optimizer


def can_fuse(network: nn.Module, name: str) -> bool:
    """Whether an optimiser of PyTorch can update each tensor of a network in one pass on a CPU.

    PyTorch does so only when asked, and otherwise goes over weights, gradients and state once for each term of the
    update. On CUDA it chooses by itself.
    """
    devices = {parameter.device.type for parameter in network.parameters() if parameter.requires_grad}
    kind = get_optimizer_class(name.lower(), bind_defaults=False)
    return devices == {"cpu"} and "fused" in inspect.signature(kind).parameters


def _merged(
    groups: list[dict[str, Any]], factors: dict[int, float], decays: dict[int, float], later: Collection[int]
) -> list[dict[str, Any]]:
    """Scale rates, set weight decays, and put parameters of equal settings together, in the order they come.

    timm leaves the scale of a layer to its own schedulers; ours multiplies what stands in ``lr``.
    """
    merged: list[tuple[dict[str, Any], list[nn.Parameter]]] = []
    for group in groups:
        common = {key: value for key, value in group.items() if key not in ("params", "lr", "lr_scale")}
        rate = group["lr"] * group.get("lr_scale", 1.0)
        for parameter in group["params"]:
            settings = {"lr": rate * factors.get(id(parameter), 1.0), **common}
            settings["weight_decay"] = decays.get(id(parameter), common["weight_decay"])
            if id(parameter) in later:
                settings[RELEASED] = True
            members = next((members for known, members in merged if known == settings), None)
            if members is None:
                merged.append((settings, [parameter]))
            else:
                members.append(parameter)
    return [{"params": members, **settings} for settings, members in merged]


def check_groups(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Say what torch's message about sizes of groups means for a run.

    Raises:
        UserError: The state that is to be loaded belongs to other groups of parameters.
    """
    stored = [len(group["params"]) for group in state["param_groups"]]
    own = [len(group["params"]) for group in optimizer.param_groups]
    if stored != own:
        raise UserError(
            f"the checkpoint's optimiser has {sum(stored)} parameters in {len(stored)} groups, and that of this recipe "
            f"{sum(own)} in {len(own)}, so the run cannot be resumed: a key that divides or freezes parameters has "
            "changed (optim.weight_decay to or from 0, optim.decay_also, optim.layer_decay, optim.lr_factors, "
            "model.freeze, model.positions), or an earlier version grouped them otherwise"
        )


def _keep_own_settings(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Load the state of the parameters, and go on with the settings of today's recipe."""
    check_groups(optimizer, state)
    groups = [
        {**stored, **{key: own[key] for key in OWN if key in own}}
        for stored, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


def configure_optimizers(
    network: nn.Module,
    recipe: Recipe,
    *,
    total_steps: int,
    steps_per_epoch: int,
    effective_batch: int,
    frozen_at_first: Collection[str] = (),
) -> OptimizerLRScheduler:
    """The recipe's optimiser, with its schedule advanced at every optimiser step, as Lightning asks a task for it.

    Args:
        network: Its trainable parameters are optimised.
        recipe: Its ``optim`` matters here.
        total_steps: Optimiser steps of the whole phase.
        steps_per_epoch: Optimiser steps of one epoch.
        effective_batch: Samples of an optimiser step over all processes.
        frozen_at_first: Names of the parameters that ``model.freeze_first`` releases later.

    Raises:
        UserError: As for :func:`build_optimizer`.
    """
    mixed = "mixed" in str(recipe.trainer.get("precision"))
    optimizer = build_optimizer(
        network, recipe.optim, effective_batch=effective_batch, mixed=mixed, frozen_at_first=frozen_at_first
    )
    schedule = build_schedule(
        optimizer,
        recipe.optim,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        release=count_frozen_steps(recipe.model.freeze_first, steps_per_epoch),
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
