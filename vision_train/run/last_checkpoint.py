"""The last checkpoint of a phase: where it lies, what it holds, how far it goes."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from vision_train.errors import UserError
from vision_train.files import utf_8_path
from vision_train.run.directory import RunDirectory, relative

SAVED = (
    *("state_dict", "epoch", "global_step", "loops", "optimizer_states", "lr_schedulers", "random_state"),
    *("callbacks", "callbacks.EpochCheckpoints", "callbacks.Meter", "classes", "recipe"),
)
"""What every last checkpoint holds. Lightning goes on without some of it, as if there had never been any."""


def last_checkpoint(directory: RunDirectory, name: str) -> Path:
    """Where a phase keeps its last epoch."""
    return directory.phase(name) / "checkpoints" / "last.ckpt"


def read_last(path: Path) -> dict[str, Any]:
    """Read a last checkpoint. Its tensors stay in the file until they are used.

    Raises:
        UserError: It is damaged.
    """
    try:
        with utf_8_path(path) as readable:
            checkpoint: dict[str, Any] = torch.load(readable, weights_only=True, map_location="cpu", mmap=True)
    except (RuntimeError, ValueError, LookupError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise damaged(path) from error
    check_whole(checkpoint, path, SAVED)
    return checkpoint


def check_whole(checkpoint: Any, path: Path, names: Iterable[str]) -> None:
    """Refuse a last checkpoint that lacks what a run has to know to go on as if it had never stopped.

    Args:
        checkpoint: What its file holds.
        path: The file.
        names: Of what has to be there; dots lead into mappings.

    Raises:
        UserError: Something is missing.
    """
    if lacking := [name for name in names if not _holds(checkpoint, name)]:
        raise damaged(path, f": it lacks {', '.join(lacking)}")


def _holds(value: Any, name: str) -> bool:
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def damaged(path: Path, what: str = "") -> UserError:
    """What is said of a last checkpoint that no run can go on with.

    Args:
        path: The file.
        what: What is wrong, where that is known.
    """
    place, best = relative(path), relative(path.with_name("best.ckpt"))
    return UserError(
        f"{place}: is truncated or damaged{what}. Put a copy of it back; or start a new run from the best epoch, "
        f"model.checkpoint={best}; or remove {place}, and the phase begins anew"
    )


def progress(path: Path) -> tuple[int, int]:
    """Epochs that a last checkpoint has behind it, and optimiser steps; without one, the phase begins anew.

    Raises:
        UserError: It is damaged.
    """
    if not path.exists():
        return 0, 0
    checkpoint = read_last(path)
    return checkpoint["epoch"] + 1, checkpoint["global_step"]
