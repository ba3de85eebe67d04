"""What a recipe of dense detection may say under ``method``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vision_train.data.boxes import BOXES
from vision_train.data.kind import Problems

DATA = BOXES
"""The kind of data that the task trains on."""
GOAL = "a visual branch to start from"
"""What training makes of them."""
NOT_TRACED = {"*": "which other networks start from; export the network that is trained from it"}
"""Networks that cannot be exported as programs, by globs of ``model.name``, and why."""


@dataclass(frozen=True)
class Method:
    """Training objective: cross-entropy of what covers each cell, and distance of the edges of that."""

    edge_weight: float = 5.0
    """Weight of the summed distance of the four edges, in shares of the frame; DETR weighs that of boxes by 5."""

    def problems(self) -> Problems:
        """Yield a weight below 0."""
        if self.edge_weight < 0:
            yield "edge_weight", f"is {self.edge_weight}; must be at least 0"

    def misplaced(self, recipe: Any) -> Problems:
        """Yield keys of other sections that cells do not use."""
        for key in ("positions", "head_std"):
            if getattr(recipe.model, key) != getattr(type(recipe.model), key):
                yield f"model.{key}", "is for classifiers; leave it out"
        if recipe.optim.layer_decay is not None:
            yield "optim.layer_decay", "is set, but a visual branch has no layers to tell apart; set optim.lr_factors"
