"""Optimiser and learning-rate schedule of a network.

Parameter groups, layer decay and the optimisers themselves are timm's; here they meet the recipe's ``optim`` section
and one schedule that is a pure function of the step, so that a resumed run needs nothing but its step count.
"""

from __future__ import annotations

import math
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.recipe.sections import Optim


def learning_rate_factor(options: Optim, effective_batch: int) -> float:
    """Linear scaling of the learning rates with the effective batch (Goyal et al., 2017); 1 where none is asked for."""
    return effective_batch / options.lr_reference_batch if options.lr_reference_batch else 1.0


def schedule(step: int, *, options: Optim, total_steps: int, warmup_steps: int) -> float:
    """Multiplier of the peak learning rate at an optimiser step.

    Linear from ``warmup_lr`` to ``lr`` over the warm-up; then half a cosine to ``min_lr`` at ``total_steps``, or
    constant.

    Args:
        step: Optimiser steps taken so far, from 0.
        options: The recipe's ``optim`` section.
        total_steps: Optimiser steps of the whole training phase.
        warmup_steps: Those of them that warm up.

    Returns:
        The learning rate of this step divided by ``options.lr``.
    """
    if step < warmup_steps:
        start = options.warmup_lr / options.lr
        return start + (1 - start) * step / warmup_steps
    if options.schedule == "constant":
        return 1.0
    end = options.min_lr / options.lr
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    return end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2


def build_optimizer(network: nn.Module, options: Optim, *, effective_batch: int) -> Optimizer:
    """Build the optimiser with its parameter groups.

    Weight decay spares biases, norms and what the network's ``no_weight_decay`` names; with ``layer_decay`` each group
    carries its learning rate already scaled by ``layer_decay ** (distance from the head)``.

    Args:
        network: Its trainable parameters are optimised.
        options: The recipe's ``optim`` section.
        effective_batch: Images per optimiser step over all processes, for linear learning-rate scaling.

    Raises:
        UserError: The optimiser does not exist or refuses its options, or the network has no layers that a decay
            could be spread over.
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
    extra: dict[str, Any] = {"betas": options.betas} if options.betas else {}
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
    for group in optimizer.param_groups:
        # timm leaves the layer's scale to its own schedulers; ours multiplies what stands in `lr`.
        group["lr"] *= group.pop("lr_scale", 1.0)
    return optimizer


def build_schedule(optimizer: Optimizer, options: Optim, *, total_steps: int, steps_per_epoch: int) -> LambdaLR:
    """The schedule of :func:`schedule` over an optimiser's groups, each relative to its own learning rate."""
    warmup_steps = round(options.warmup_epochs * steps_per_epoch)
    return LambdaLR(
        optimizer,
        lambda step: schedule(step, options=options, total_steps=total_steps, warmup_steps=warmup_steps),
    )


def configure_optimizers(
    network: nn.Module, recipe: Recipe, trainer: Trainer, *, total_steps: int, steps_per_epoch: int
) -> OptimizerLRScheduler:
    """The recipe's optimiser, with its schedule advanced at every optimiser step, as Lightning asks a task for it.

    Args:
        network: Its trainable parameters are optimised.
        recipe: Its batch size and ``optim`` matter here.
        trainer: Says how many processes and accumulated batches share a step.
        total_steps: Optimiser steps of the whole phase.
        steps_per_epoch: Optimiser steps of one epoch.

    Raises:
        UserError: As for :func:`build_optimizer`.
    """
    batch = recipe.data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
    optimizer = build_optimizer(network, recipe.optim, effective_batch=batch)
    schedule = build_schedule(optimizer, recipe.optim, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ClipEachGradient(Callback):
    """Clips the gradient of every parameter tensor by itself, as DropPos trains.

    Args:
        max_norm: Largest norm of a single tensor's gradient.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Clip; gradients of mixed precision have been scaled back by now."""
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_(parameter, self.max_norm)
