"""What a detection recipe may say under ``method``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from vision_train.data.boxes import BOXES
from vision_train.data.kind import Problems

WEIGHTS = "models.detr.published:describe"
"""The function that describes weights of detectors, for ``vision-train inspect``."""
DATA = BOXES
"""The kind of data that the task trains on."""
GOAL = "a detector"
"""What training makes of them."""
SUGGESTED = "relation_detr/finetune_resnet50"
"""The built-in recipe to start from."""
SEMI_METHODS = ("mean_teacher", "self_training", "active_rounds")
"""How the task learns from unlabelled images."""


@dataclass(frozen=True)
class Denoising:
    """Queries made of spoilt targets."""

    count: int = 100
    """Positive queries of an image at most, unless it has more targets; each group of them holds all targets."""
    label_noise: float = 0.5
    """Twice the share of targets whose label is drawn anew."""
    box_noise: float = 1.0
    """Share of half a side by which a corner moves at most; of negative queries twice as much."""
    hide_empty: bool = True
    """Hide slots that no target of an image fills, and count them in no loss. The official code shows them to other
    queries and counts them as background, so that the loss of an image depends on the others in its batch."""
    most_queries: int | None = 1000
    """Queries at most: limits `count`, and leaves out targets of images with more than half as many objects. Null sets
    no limit, as in the official code, whose memory grows with the square."""

    def problems(self) -> Problems:
        """Yield counts and shares outside their range."""
        if self.count < 1:
            yield "count", f"is {self.count}; must be at least 1"
        for key in ("label_noise", "box_noise"):
            if not 0 <= getattr(self, key) <= 1:
                yield key, f"is {getattr(self, key)}; must lie in [0, 1]"
        if self.most_queries is not None and self.most_queries < 2:
            yield "most_queries", f"is {self.most_queries}; must be at least 2, or null for no limit"


@dataclass(frozen=True)
class Method:
    """Training objective: class, distance and generalised IoU of matched boxes, weighted 1, 5 and 2."""

    class_loss: Literal["vfl", "focal"] = "vfl"
    """Loss of the class: `vfl` asks a matched query for the IoU of its box, `focal` for 1."""
    hybrid_repeats: int = 6
    """Hybrid queries that each object is given, in training alone; see `model.args.hybrid_queries`."""
    denoising: Denoising = field(default_factory=Denoising)
    """Queries made of spoilt targets."""
    pseudo_box_weight: Literal["score", "one", "zero"] = "score"
    """Factor of the losses of boxes that a teacher found in unlabelled images (`semi.method`): their score, 1, or 0, so
    that only their classes are learnt."""
    threshold: float | None = None
    """Score from which on `predict` shows boxes in pictures and tables; null takes, for each class, that at which F1 on
    the validation images is largest. It has no part in training."""

    def misplaced(self, recipe: Any) -> Problems:
        """Yield keys of `semi` that are for labels of whole images."""
        usual = type(recipe.semi)()
        for key in ("threshold", "momentum", "fairness"):
            if getattr(recipe.semi, key) != getattr(usual, key):
                yield f"semi.{key}", "is not for detection, where validation images choose a threshold for each class"
        if recipe.data.mix_unlabelled and recipe.semi.in_phases:
            yield (
                "data.mix_unlabelled",
                f"is not for semi.method={recipe.semi.method}, whose boxes lie in a file; set data.mixing, which mixes "
                "them as labelled ones, or semi.method=mean_teacher",
            )
        if recipe.semi.class_cap is not None:
            yield (
                "semi.class_cap",
                "is not for detection, where an image has objects of several classes; set it to null",
            )
        if recipe.semi.method == "self_training" and recipe.semi.views != usual.views:
            yield (
                "semi.views",
                "is for the scores of active_rounds: voters see each image as in validation; leave it out",
            )

    def problems(self) -> Problems:
        """Yield values outside their range."""
        if self.hybrid_repeats < 1:
            yield "hybrid_repeats", f"is {self.hybrid_repeats}; must be at least 1"
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            yield "threshold", f"is {self.threshold}; must lie in [0, 1]"
