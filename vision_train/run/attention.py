"""Which backend computes a run's attention: decided before training, told to the user, kept in the run."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Trainer

from models.timm_attention import AttentionReceipt
from vision_train.artefacts import Table
from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.tasks.base import Task

COMPUTED_IN = {"16": torch.float16, "bf16": torch.bfloat16, "64": torch.float64}
"""First part of Lightning's precision -> what matrices are multiplied in; float32 for all others."""


def decide_attention(task: Task, recipe: Recipe, trainer: Trainer) -> AttentionReceipt:
    """Decide for the trainer's device and precision what computes the attention of a task's network.

    Raises:
        UserError: The recipe names a backend that cannot run there.
    """
    dtype = COMPUTED_IN.get(str(trainer.precision).split("-")[0], torch.float32)
    device = trainer.strategy.root_device
    try:
        return task.attention.decided(
            task.network, device=device, dtype=dtype, training=True, compiled=recipe.model.compile
        )
    except ValueError as error:
        raise UserError(f"model.attention={recipe.model.attention}: {error}") from error


def attention_line(receipt: AttentionReceipt) -> str:
    """The receipt in a line: the backends that run, why others do not, and what keeps its own computation."""
    backends = dict.fromkeys(use.backend for use in receipt.uses)
    refusals = dict.fromkeys(f"{name}: {reason}" for use in receipt.uses for name, reason in use.refused.items())
    kept = [f"{name} {reason}" for name, reason in receipt.kept.items()]
    refused = f" (not {'; not '.join(refusals)})" if refusals else ""
    return "; ".join([*([" and ".join(backends) + refused] if backends else []), *kept]) or "none in this model"


def attention_table(receipt: AttentionReceipt) -> Table | None:
    """The receipt for the report, a row for each kind of attention; None where none could be routed."""
    if not receipt.uses and not receipt.installed:
        return None
    rows: list[list[Any]] = [
        [use.attention_class, use.modules, use.head_dim, "yes" if use.has_bias else "no", use.backend]
        for use in receipt.uses
    ]
    rows += [[name, None, None, None, "its own"] for name in receipt.kept]
    note = f"model.attention={receipt.asked}: {attention_line(receipt)}"
    return Table(
        "attention", "What computes attention", ["layer", "modules", "head size", "bias", "computed by"], rows, note
    )
