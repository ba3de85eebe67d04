"""The last checkpoint of a phase: where it lies, what it holds, how far it goes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from vision_train.errors import UserError
from vision_train.files import utf_8_path
from vision_train.run.directory import RunDirectory, relative


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
        _ = checkpoint["state_dict"], checkpoint["epoch"], checkpoint["global_step"]
    except (RuntimeError, ValueError, LookupError, TypeError, EOFError, pickle.UnpicklingError) as error:
        place, best = relative(path), relative(path.with_name("best.ckpt"))
        raise UserError(
            f"{place}: is truncated or damaged. Put a copy of it back; or start a new run from the best epoch, "
            f"model.checkpoint={best}; or remove {place}, and the phase begins anew"
        ) from error
    return checkpoint


def progress(path: Path) -> tuple[int, int]:
    """Epochs that a last checkpoint has behind it, and optimiser steps; without one, the phase begins anew.

    Raises:
        UserError: It is damaged.
    """
    if not path.exists():
        return 0, 0
    checkpoint = read_last(path)
    return checkpoint["epoch"] + 1, checkpoint["global_step"]
