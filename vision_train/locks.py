"""Locks on files, by which one process knows that another is at work. They end with the process, however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vision_train.errors import UserError

if TYPE_CHECKING:
    from filelock import BaseFileLock

HELD = "VISION_TRAIN_LOCK"
"""Environment variable by which a command says to a process that it starts which lock that has to hold."""

_for_life: list[BaseFileLock] = []


def take(file: Path) -> BaseFileLock | None:
    """A lock that this process holds from now on, until it is released; None if another process holds it."""
    from filelock import FileLock, Timeout  # takes as long to import as the command line itself

    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


@contextmanager
def alone(file: Path, refusal: str) -> Iterator[None]:
    """Keep other processes from the same work meanwhile; those that this one forks or starts do not hold the lock.

    Args:
        file: The lock, in a folder that exists. It is made, and may stay.
        refusal: What to say where another process holds it.

    Raises:
        UserError: Another process holds it.
    """
    lock = take(file)
    if lock is None:
        raise UserError(refusal)
    try:
        yield
    finally:
        lock.release()


def is_free(file: Path) -> bool:
    """Whether no process holds a lock, at this moment."""
    lock = take(file)
    if lock is not None:
        lock.release()
    return lock is not None


def hold_for_life() -> None:
    """Hold the lock that the command which started this process named, if it did, until this process ends.

    Raises:
        UserError: Another process holds it.
    """
    file = os.environ.pop(HELD, None)  # processes that this one starts do not hold it
    if file is None:
        return
    lock = take(Path(file))
    if lock is None:
        raise UserError(f"{file}: is held by another process, which does this work; wait until it ends, or stop it")
    _for_life.append(lock)
