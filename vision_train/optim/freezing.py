"""Parameters that a recipe excludes from training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.optim import Optimizer

from vision_train.errors import UserError
from vision_train.recipe.globs import all_matching


@dataclass(frozen=True)
class Frozen:
    """What of a network is not trained."""

    modules: list[nn.Module]
    """The outermost modules that are frozen as a whole, for good."""
    at_first: frozenset[str] = frozenset()
    """Names of the parameters that are frozen for the first epochs alone."""
    modules_at_first: list[nn.Module] = field(default_factory=list)
    """The outermost modules of which every parameter is frozen at first, be it for good."""


def freeze(network: nn.Module, globs: Sequence[str]) -> list[nn.Module]:
    """Exclude parameters from training, and put modules that are frozen as a whole into evaluation mode.

    A frozen module in evaluation mode keeps its batch norm statistics and drops nothing out. Parameters must be frozen
    before the network is wrapped for several processes, which wait for the gradient of every trained parameter.

    Args:
        network: Its parameters lose ``requires_grad``.
        globs: The recipe's ``model.freeze``.

    Returns:
        The outermost modules whose parameters are all frozen by the globs.

    Raises:
        UserError: A glob matches no parameter, or no parameter is left to train.
    """
    return freeze_parameters(network, names_to_freeze(network, globs))


def names_to_freeze(network: nn.Module, globs: Sequence[str], key: str = "model.freeze") -> set[str]:
    """Names of the parameters that the globs of a key of the recipe match.

    Raises:
        UserError: As for :func:`freeze`.
    """
    parameters = dict(network.named_parameters())
    frozen = set(all_matching(globs, parameters, key))
    if frozen and not any(parameter.requires_grad for name, parameter in parameters.items() if name not in frozen):
        raise UserError(f"{key}={list(globs)}: freezes every parameter, so nothing is trained; name fewer")
    return frozen


def freeze_parameters(network: nn.Module, frozen: Collection[str]) -> list[nn.Module]:
    """Exclude the named parameters from training; else as :func:`freeze`."""
    parameters = dict(network.named_parameters())
    for name in frozen:
        parameters[name].requires_grad_(False)
    modules = frozen_modules(network, frozen)
    for module in modules:
        module.eval()
    return modules


def freeze_at_first(network: nn.Module, names: Collection[str], modules: list[nn.Module]) -> Frozen:
    """Note what is frozen until :class:`ReleaseFrozen` releases it; the network stays as it is.

    The optimiser and the wrapper for several processes have to see all that will ever be trained. What is not trained
    anyway, such as fixed positions, is not released.

    Args:
        network: With what is frozen for good.
        names: Of the parameters.
        modules: The outermost modules that are frozen for good.
    """
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    fixed = {name for name, _ in network.named_parameters()} - trained
    return Frozen(modules, frozenset(trained & set(names)), frozen_modules(network, fixed | set(names)))


def frozen_modules(network: nn.Module, names: Collection[str]) -> list[nn.Module]:
    """The outermost modules that have parameters, all of them named."""
    return _outermost(network, {id(parameter) for name, parameter in network.named_parameters() if name in names})


def _outermost(module: nn.Module, frozen: Collection[int]) -> list[nn.Module]:
    """Return the modules nearest to the root that have parameters, all of them frozen."""
    own = [id(parameter) for parameter in module.parameters()]
    if own and all(parameter in frozen for parameter in own):
        return [module]
    return [found for child in module.children() for found in _outermost(child, frozen)]


class KeepFrozen(Callback):
    """Keeps frozen modules in evaluation mode, whatever the mode of the network around them.

    Args:
        modules: What :func:`freeze` returned.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Undo what a call of ``train()`` since the last batch has changed."""
        for module in self.modules:
            module.eval()


class ReleaseFrozen(Callback):
    """Keeps parameters as they are up to an optimiser step, and lets them be trained from there on.

    Whether they are frozen follows from the step alone, so a resumed run goes on as it would have. One process leaves
    their gradients out of the backward pass. DDP waits for the gradient of every parameter that was trained when it
    began, so that under it they are computed and dropped. A parameter without a gradient has no state in the optimiser
    and does not decay.

    Args:
        modules: The outermost modules that are frozen as a whole; they are in evaluation mode until then.
        parameters: What is frozen.
        step: Optimiser steps that are taken without them.
    """

    def __init__(self, modules: Sequence[nn.Module], parameters: Sequence[nn.Parameter], step: int) -> None:
        self.modules, self.parameters, self.step = modules, parameters, step
        self._modes: list[tuple[nn.Module, bool]] | None = None
        """The modes of all modules before they were frozen; None while nothing is frozen."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Freeze or release, and undo what a call of ``train()`` since the last batch has changed."""
        if trainer.global_step >= self.step:
            self._release()
            return
        if self._modes is None:
            self._modes = [(module, module.training) for outer in self.modules for module in outer.modules()]
            # DDP wraps a single process too, and waits for the gradient of every parameter.
            self._require_gradients(isinstance(trainer.strategy, DDPStrategy))
        for module in self.modules:
            module.eval()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Drop the gradients, before they are clipped together with the others."""
        if self._modes is not None:
            for parameter in self.parameters:
                parameter.grad = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the network as it was, where training ended before."""
        self._release()

    def _release(self) -> None:
        if self._modes is None:
            return
        self._require_gradients(True)
        for module, training in self._modes:
            module.training = training
        self._modes = None

    def _require_gradients(self, wanted: bool) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(wanted)
