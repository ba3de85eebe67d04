"""A few steps of a training that is not kept, by which something is found out about the whole."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer

from vision_train.run.inference import ONE_PROCESS
from vision_train.run.phase import Prepared
from vision_train.run.steps import TrainingSteps, tell
from vision_train.run.trainer import build_trainer, call_trainer


def try_steps(prepared: Prepared, steps: TrainingSteps, callbacks: Sequence[Callback], **limits: Any) -> Trainer:
    """Train in one process, as if for so many steps; nothing that is written stays.

    Args:
        prepared: What is trained. Its weights are not those that it was prepared with afterwards.
        steps: Of the whole training.
        callbacks: What acts and what watches.
        limits: Trainer keys that end the trial.

    Raises:
        UserError: As training would.
    """
    tell(prepared.task, prepared.data, steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(prepared.recipe, list(callbacks), Path(folder), **limits, **ONE_PROCESS)
        call_trainer(trainer, "fit", prepared.task, datamodule=prepared.data)
    return trainer


def learn_from_pool_at_once(prepared: Prepared) -> None:
    """Skip the burn-in: steps that learn from the pool are those that take long and need most memory."""
    if prepared.task.teaching is not None:
        prepared.task.teaching.burn_in = 0
