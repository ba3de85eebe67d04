"""The engine of vision-train: everything that knows recipes, files, Lightning or the command line.

From Python, ``vision_train.fit``, ``evaluate``, ``predict``, ``compare`` and ``load`` do what the verbs of the command
line do, and a ``Run`` is what ``fit`` returns; see ``docs/python.md``. Importing this package loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vision_train.errors import UserError

if TYPE_CHECKING:
    from vision_train.api import Comparison, LoadedRun, Run, compare, evaluate, fit, load, predict

__version__ = "0.1.0"
__all__ = ["Comparison", "LoadedRun", "Run", "UserError", "compare", "evaluate", "fit", "load", "predict"]


def __getattr__(name: str) -> Any:
    """Import the verbs when they are asked for."""
    if name in __all__:
        from vision_train import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
