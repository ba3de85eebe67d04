"""Parameters that a recipe excludes from training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from vision_train.errors import UserError
from vision_train.recipe.globs import all_matching


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
    parameters = dict(network.named_parameters())
    frozen = set(all_matching(globs, parameters, "model.freeze"))
    modules = freeze_parameters(network, frozen)
    if frozen and not any(parameter.requires_grad for parameter in parameters.values()):
        raise UserError(f"model.freeze={list(globs)}: freezes every parameter, so nothing is trained; name fewer")
    return modules


def freeze_parameters(network: nn.Module, frozen: Collection[str]) -> list[nn.Module]:
    """Exclude the named parameters from training; else as :func:`freeze`."""
    parameters = dict(network.named_parameters())
    for name in frozen:
        parameters[name].requires_grad_(False)
    modules = _outermost(network, {id(parameters[name]) for name in frozen})
    for module in modules:
        module.eval()
    return modules


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
