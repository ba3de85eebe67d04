"""The verbs for Python: train, evaluate, predict and compare from a script or a notebook.

``vision_train.fit`` and the others are these. Nothing heavy is imported before one is called.
"""

from __future__ import annotations

from vision_train.api.comparison import Comparison, compare
from vision_train.api.loaded import LoadedRun
from vision_train.api.run import Run, evaluate, fit, load, predict

__all__ = ["Comparison", "LoadedRun", "Run", "compare", "evaluate", "fit", "load", "predict"]
