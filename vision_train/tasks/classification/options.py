"""What a classification recipe may say under ``method``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vision_train.data.images import IMAGES

DATA = IMAGES
"""The kind of data that the task trains on."""


@dataclass(frozen=True)
class Method:
    """Training objective: cross-entropy against soft targets."""

    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield a smoothing that leaves nothing of the label."""
        if not 0 <= self.label_smoothing < 1:
            yield "label_smoothing", f"is {self.label_smoothing}; must lie in [0, 1)"
