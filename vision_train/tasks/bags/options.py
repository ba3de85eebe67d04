"""What a recipe for bags may say under ``method``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vision_train.data.bags import BAGS
from vision_train.data.kind import Problems

DATA = BAGS
"""The kind of data that the task trains on."""
GOAL = "a classifier of bags"
"""What training makes of them."""
SUGGESTED = "acmil/slides"
"""The built-in recipe to start from."""
WEIGHTS = "models.mil.published:describe"
"""The function that describes weights of the task's networks, for ``vision-train inspect``."""
NOT_TRACED = {"transmil": "which lays instances out in a square, and its side has to be fixed"}
"""Networks that cannot be exported as programs, by globs of ``model.name``, and why."""


@dataclass(frozen=True)
class Hiding:
    """Some of the instances that attract most attention are hidden in training (STKIM).

    Keep `top_k * drop_ratio` below the number of instances that carry a bag's label, or training may collapse.
    """

    top_k: int = 10
    """In each branch the instances of the highest scores are candidates: so many."""
    drop_ratio: float = 0.6
    """Share of the candidates that is hidden."""
    mode: Literal["exact", "bernoulli"] = "exact"
    """`exact` hides that share of them, as released; `bernoulli` each with that probability, as the paper says."""
    k_max_fraction: float | None = None
    """Candidates are at most this share of the bag; null for no such limit."""
    warmup_epochs: float = 0.0
    """Hide nothing for so many epochs, until attention has found something."""

    def problems(self) -> Problems:
        """Yield values outside their range."""
        if self.top_k < 1:
            yield "top_k", f"is {self.top_k}; must be at least 1 (method.hiding=null hides nothing)"
        if not 0 <= self.drop_ratio <= 1:
            yield "drop_ratio", f"is {self.drop_ratio}; must lie in [0, 1]"
        if self.k_max_fraction is not None and not 0 < self.k_max_fraction <= 1:
            yield "k_max_fraction", f"is {self.k_max_fraction}; must lie in (0, 1]"
        if self.warmup_epochs < 0:
            yield "warmup_epochs", f"is {self.warmup_epochs}; must be 0 or more"


@dataclass(frozen=True)
class Method:
    """Training objective: cross-entropy of the bag, and what a network adds to it."""

    branch_weight: float = 1.0
    """Weight of the branches' own cross-entropy (ACMIL); without effect on networks of one branch."""
    diversity_weight: float = 1.0
    """Weight of the similarity between the branches' attentions (ACMIL); without effect on networks of one branch."""
    instance_weight: float = 0.0
    """Share of the loss that CLAM's instance classifiers get; the bag gets the rest."""
    entropy_weight: float = 0.0
    """Weight of the negative entropy of the attention (AEM): more spreads attention further."""
    hiding: Hiding | None = None
    """Which instances are hidden; null hides none."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the cross-entropies of bags and branches. `balanced` weighs each by one over its
    frequency among the training bags, so that all of them weigh alike; a bag weighs 1 on average. The losses of
    validation and test stay unweighted."""

    def misplaced(self, recipe: Any) -> Problems:
        """Yield keys of other sections that bags do not use."""
        if recipe.augment != type(recipe.augment)():
            yield "augment", "is for images; features are taken as they are"
        for key in ("in_features", "classes"):
            if key in recipe.model.args:
                yield f"model.args.{key}", "is not for a recipe to set: the data say it"
        for key in ("positions", "head_std", "attention"):
            if getattr(recipe.model, key) != getattr(type(recipe.model), key):
                yield f"model.{key}", "is for networks that see images; bags have no use for it"
        if recipe.optim.layer_decay is not None:
            yield "optim.layer_decay", "is set, but networks for bags have no layers to tell apart; leave it null"
        if "optim.lr" in recipe.run.automatic:
            yield (
                "run.automatic",
                "has optim.lr, but the loss of bags also falls where a network learns to find nothing in them, and the "
                "range test takes the rate that brings that about; set optim.lr to a number",
            )
        if self.class_weights == "balanced" and recipe.data.balance == "classes":
            both = "is `balanced` beside data.balance=classes; each alone lets all classes count alike"
            yield "method.class_weights", f"{both}: set one of them to none"

    def problems(self) -> Problems:
        """Yield weights that make no sense."""
        for key in ("branch_weight", "diversity_weight", "entropy_weight"):
            if getattr(self, key) < 0:
                yield key, f"is {getattr(self, key)}; must be 0 or more"
        if not 0 <= self.instance_weight < 1:
            yield "instance_weight", f"is {self.instance_weight}; must lie in [0, 1)"
