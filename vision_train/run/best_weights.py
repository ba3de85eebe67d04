"""The best weights of a run, with what validation decided of how to predict with them."""

from __future__ import annotations

from pathlib import Path

from vision_train.checkpoints import match_weights, read_weights
from vision_train.tasks.base import Task

CALIBRATION = "calibration"
"""Where a checkpoint keeps it."""


def load_best(task: Task, path: Path) -> None:
    """Fill the network of a task, and :attr:`Task.calibration`.

    Args:
        task: Of the recipe that the weights were trained by.
        path: A run directory or a checkpoint of one.

    Raises:
        UserError: There are no such weights, or they are not those of this network.
    """
    weights = read_weights(path)
    _, state = match_weights(task.network, weights, min_matched_share=1.0)
    task.network.load_state_dict(state, strict=False)
    task.calibration = weights.facts.get(CALIBRATION) or {}
