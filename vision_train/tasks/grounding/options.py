"""What a grounding recipe may say under ``method``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vision_train.data.kind import Problems
from vision_train.data.phrases import PHRASES

WEIGHTS = "models.grounding.names:describe"
"""The function that describes weights of grounding networks, for ``vision-train inspect``."""
SETTLE = "vision_train.tasks.grounding.text_sizes:settle"
"""The function that fills in what files say of the network."""
DATA = PHRASES
"""The kind of data that the task trains on."""
GOAL = "a finder of what is said"
"""What training makes of them."""
SEMI_METHODS = ("mean_teacher", "self_training", "active_rounds")
"""How the task learns from expressions without boxes."""


@dataclass(frozen=True)
class Method:
    """Training objective: distance and generalised IoU of the box, and cross-entropy of its quantised coordinates."""

    distance_weight: float = 1.0
    """Weight of the summed absolute differences of the four coordinates; VLTVG has 5."""
    giou_weight: float = 1.0
    """Weight of 1 - GIoU; VLTVG has 2."""
    bins_weight: float = 1.0
    """Weight of the cross-entropy of quantised coordinates, where `model.args.bins` gives the network a head for them.
    Our choice, as are the next two."""
    bin_target: Literal["hard", "two_hot", "gaussian"] = "hard"
    """What that head should say: the one bin of a coordinate, the two next to it, or a bell of 1.5 bins around it."""
    confidence: Literal["geomean_max", "mean_max", "prod_max", "window_max", "one_minus_entropy"] = "geomean_max"
    """How a confidence is read off that head: geometric mean, mean or product over coordinates of the largest
    probability; that of the likeliest bin with its neighbours; or 1 - entropy."""

    def misplaced(self, recipe: Any) -> Problems:
        """Yield keys of `semi` that are for labels of whole images, or for another method."""
        usual = type(recipe.semi)()
        for key in ("threshold", "momentum", "fairness"):
            if getattr(recipe.semi, key) != getattr(usual, key):
                yield f"semi.{key}", "is not for grounding, whose boxes count by their confidence; leave it out"
        if recipe.semi.class_cap is not None:
            yield "semi.class_cap", "is not for grounding, where expressions have no classes; set it to null"
        if recipe.semi.method == "self_training" and recipe.semi.views != usual.views:
            yield (
                "semi.views",
                "is for the scores of active_rounds: voters see each image as in validation; leave it out",
            )

    def problems(self) -> Problems:
        """Yield weights below 0."""
        for key in ("distance_weight", "giou_weight", "bins_weight"):
            if getattr(self, key) < 0:
                yield key, f"is {getattr(self, key)}; must be at least 0"
