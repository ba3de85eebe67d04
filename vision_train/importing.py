"""Importing large libraries, and other work that makes many objects which stay, in less time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NEEDLESS = ("wandb",)
"""Packages that timm imports where they are installed, though only its own training script needs them."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Switch garbage collection off for the block: Python would go through all that was made, again and again."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


@contextmanager
def without_needless() -> Iterator[None]:
    """Make these packages look as if they were not installed while the block imports others.

    Only for a process in which all code is ours. Runs that are tracked with wandb import it later.
    """
    hidden = [name for name in NEEDLESS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: importing it raises ImportError
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
