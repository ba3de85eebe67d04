"""What a classification recipe may say under ``method``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vision_train.data.images import IMAGES
from vision_train.data.kind import Problems

DATA = IMAGES
"""The kind of data that the task trains on."""
GOAL = "a classifier"
"""What training makes of them."""
SUGGESTED = "classification/vit_small"
"""The built-in recipe to start from."""
VIEWS = "vision_train.tasks.classification.views:augmented_views"
"""What makes the views of test-time augmentation."""
SEMI_METHODS = ("mean_teacher", "freematch", "fixmatch", "softmatch", "self_training", "active_rounds")
"""How the task learns from unlabelled images."""


@dataclass(frozen=True)
class Method:
    """Training objective: cross-entropy against soft targets."""

    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the loss. `balanced` weighs each by one over its frequency among the training images,
    so that all of them weigh alike; an image weighs 1 on average. The losses of validation and test stay unweighted."""

    def misplaced(self, recipe: Any) -> Problems:
        """Yield two ways at once to let rare classes count for more."""
        if self.class_weights == "balanced" and recipe.data.balance == "classes":
            both = "is `balanced` beside data.balance=classes; each alone lets all classes count alike"
            yield "method.class_weights", f"{both}: set one of them to none"

    def problems(self) -> Problems:
        """Yield a smoothing that leaves nothing of the label."""
        if not 0 <= self.label_smoothing < 1:
            yield "label_smoothing", f"is {self.label_smoothing}; must lie in [0, 1)"
