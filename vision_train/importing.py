"""Importing large libraries, and other work that makes many objects which stay, in less time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NEEDLESS = ("wandb",)
"""Packages that timm imports, where they are installed, for its own training script alone. Ours come by Lightning."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: Python would go through everything that was made, again and again."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


@contextmanager
def without_needless() -> Iterator[None]:
    """Let imports inside pass over what is not needed. Only for a process of ours: timm takes it for not installed."""
    hidden = [name for name in NEEDLESS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: importing it raises ImportError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
