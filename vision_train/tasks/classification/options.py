"""What a classification recipe may say under ``method``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DATA = "labelled images"
"""Kind of data that the task trains on."""


@dataclass(frozen=True)
class Method:
    """Training objective: cross-entropy against soft targets."""

    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes."""

    def misplaced(self, recipe: Any) -> Iterator[tuple[str, str]]:
        """Yield keys of other sections that classification has no use for."""
        if recipe.data.source in ("bags", "digit_bags"):
            yield "data.source", f"is `{recipe.data.source}`, which is for recipes of the task `bags`"
        if recipe.data.probe is not None:
            yield "data.probe", "is set, but only pre-training measures features by a probe; leave it null"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield a smoothing that leaves nothing of the label."""
        if not 0 <= self.label_smoothing < 1:
            yield "label_smoothing", f"is {self.label_smoothing}; must lie in [0, 1)"
