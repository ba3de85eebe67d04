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
OF_TIMM = True
"""Networks are timm's, or built as timm builds its own."""


@dataclass(frozen=True)
class Method:
    """Training objective: cross-entropy against soft targets, over the classes or for each class by itself."""

    loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    """`cross_entropy`: an image has one class, and probabilities sum to one (softmax). `bce`: it has any number of them
    (`data.multi_label`), and each has a probability of its own (sigmoid); the binary cross-entropy is the mean over
    images and classes."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes; with `bce` over yes and no of each class."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the loss. `balanced` weighs each by one over its frequency among the training images,
    so that all of them weigh alike; an image weighs 1 on average. With `bce` it weighs the images that bear a class by
    how many do not for each that does. The losses of validation and test stay unweighted."""

    def misplaced(self, recipe: Any) -> Problems:
        """Yield what does not go together with the loss, and two ways at once to let rare classes count for more."""
        if recipe.data.multi_label != (self.loss == "bce"):
            several = "true" if recipe.data.multi_label else "false"
            remedy = "method.loss=bce" if recipe.data.multi_label else "data.multi_label=true, or cross_entropy"
            yield "method.loss", f"is {self.loss} where data.multi_label={several}; set {remedy}"
        if recipe.data.multi_label:
            yield from _single_label(recipe)
        if self.class_weights == "balanced" and recipe.data.balance == "classes":
            both = "is `balanced` beside data.balance=classes; each alone lets all classes count alike"
            yield "method.class_weights", f"{both}: set one of them to none"

    def problems(self) -> Problems:
        """Yield a smoothing that leaves nothing of the label."""
        if not 0 <= self.label_smoothing < 1:
            yield "label_smoothing", f"is {self.label_smoothing}; must lie in [0, 1)"


def _single_label(recipe: Any) -> Problems:
    """Yield keys that mean nothing where an image bears several labels."""
    select, labels = recipe.run.select.metric.partition("/")[2], recipe.augment.mixing.labels
    if select in ("accuracy", "accuracy_top5", "balanced_accuracy", "calibration_error"):
        yield (
            "run.select.metric",
            f"is {recipe.run.select.metric}, which is of one label an image; set 'run.select={{metric: val/map, mode: "
            "max}'",
        )
    if labels == "progressive":
        yield "augment.mixing.labels", "is progressive, which takes probabilities that sum to one; set area or transmix"
    if recipe.semi.method != "none":
        yield (
            "semi.method",
            f"is {recipe.semi.method}, whose pseudo-labels are one class an image; set it to none with "
            "data.multi_label=true",
        )
