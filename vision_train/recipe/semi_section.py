"""The `semi` section of a recipe: what is done with images that have no label."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from vision_train.data.kind import Problems
from vision_train.recipe.semi_rounds import SemiRounds
from vision_train.recipe.verdict_section import Verdict

SemiMethod = Literal[
    "none",
    "mean_teacher",
    "freematch",
    "fixmatch",
    "softmatch",
    "self_training",
    "active_rounds",
]
IN_STEPS = ("mean_teacher", "freematch", "fixmatch", "softmatch")
"""Methods by which each training step learns from labelled and unlabelled images at once, under a teacher."""
IN_PHASES = ("self_training", "active_rounds")
"""Methods that label the pool between phases of the run, and then train on these labels."""
USED_BY: dict[str, tuple[str, ...]] = {
    "weight": (*IN_STEPS, *IN_PHASES),
    "burn_in": (*IN_STEPS, *IN_PHASES),
    "teacher": IN_STEPS,
    "threshold": ("fixmatch",),
    "momentum": ("freematch", "softmatch"),
    "fairness": ("freematch",),
    "voters": ("self_training",),
    "class_cap": ("self_training",),
    "views": IN_PHASES,
    "rounds": ("active_rounds",),
}
"""Key -> the methods that use it. All use the others; by `ratio` even `none` has an epoch as long as with the pool."""


@dataclass(frozen=True)
class Semi:
    """What is done with the images of `data.unlabelled`."""

    method: SemiMethod = "none"
    """How they are learnt from. `mean_teacher`: the network agrees with its own average. `freematch`, `fixmatch` and
    `softmatch`: pseudo-labels of a weak view above a threshold, learnt on a strong view; for classification alone.
    `self_training`: pseudo-labels once, after a vote. `active_rounds`: rounds of scoring, selecting and retraining.
    `none`: labelled images alone, in epochs as long as with the pool."""
    ratio: float = 1.0
    """Unlabelled images for each labelled image of a batch. They come on top of `data.batch_size`."""
    weight: float = 1.0
    """Weight of the loss of unlabelled images. That loss counts for at most 4 times that of labelled ones. With 0 the
    methods that label the pool between phases train in the same phases on labelled images alone."""
    burn_in: float | None = None
    """Share of the optimiser steps that learn from labelled images alone before the pool is used, rounded up to whole
    epochs where that leaves the pool some. Null takes 0.25 from random weights, 0.5 from weights for other classes and
    0 from a run of the same classes."""
    teacher: Literal["average", "student"] = "average"
    """Who labels the pool: the moving average of the weights (`optim.ema`), or the network itself, as USB's recipes for
    transformers do."""
    threshold: float = 0.95
    """Confidence from which `fixmatch` accepts a label."""
    momentum: float | None = None
    """Share of the running averages that `freematch` and `softmatch` keep at each step. Null takes 0.999, and 0.99 for
    fewer than 5,000 steps."""
    fairness: float = 0.001
    """Weight of FreeMatch's self-adaptive fairness."""
    voters: int | list[str] = field(default=1, metadata={"path": True})
    """Whose votes `self_training` counts: that many networks, each trained as burn-in is, with a seed of its own and on
    the same labels; or finished runs of the same classes, in place of a burn-in. Where labels are boxes, the task says
    how many have to find one."""
    class_cap: int | None = None
    """Pseudo-labels of each class that `self_training` takes at most, those with most votes; null takes all."""
    views: int = 2
    """Weak and as many strong views, beside the image as in validation, under which a voter or a round's teacher is
    asked about each image. Strong ones leave out random erasing. Labels that are boxes are those of the image as in
    validation; the other views tell how robust they are, for `active_rounds`."""
    rounds: SemiRounds = field(default_factory=SemiRounds)
    """How `active_rounds` goes about its rounds."""
    verdict: Verdict | None = None
    """Whether the method helped, and whether it was the pool: controls are trained beside the run. Null asks for no
    verdict."""

    @property
    def in_phases(self) -> bool:
        """Whether the pool is labelled between phases of the run."""
        return self.method in IN_PHASES

    @property
    def uses_pool_in_steps(self) -> bool:
        """Whether training steps draw from the pool."""
        return self.method in IN_STEPS

    @property
    def voting_runs(self) -> list[str]:
        """The finished runs among the voters."""
        return self.voters if isinstance(self.voters, list) else []

    @property
    def notes(self) -> list[str]:
        """Which keys were set that the method does not use, in a sentence; none where there are none.

        They are no mistake: recipes that differ by their method alone extend one another.
        """
        idle = [key for key, methods in USED_BY.items() if self.method not in methods]
        if self.method == "self_training" and self.voting_runs:
            idle.append("burn_in")  # these runs have had theirs
        found = [text for key in idle for text in _set(f"semi.{key}", getattr(self, key), getattr(Semi(), key))]
        return [f"semi.method={self.method} does not use {', '.join(found)}"] if found else []

    def problems(self) -> Problems:
        """Yield values outside their range."""
        if self.ratio <= 0:
            yield "ratio", f"is {self.ratio}; must be above 0"
        for key in ("weight", "fairness"):
            if getattr(self, key) < 0:
                yield key, f"is {getattr(self, key)}; must be 0 or more"
        if self.burn_in is not None and not 0 <= self.burn_in < 1:
            yield "burn_in", f"is {self.burn_in}; a share of the steps lies in [0, 1)"
        if not 0 < self.threshold <= 1:
            yield "threshold", f"is {self.threshold}; must lie above 0 and not above 1"
        if self.momentum is not None and not 0 <= self.momentum < 1:
            yield "momentum", f"is {self.momentum}; must lie in [0, 1)"
        if isinstance(self.voters, int) and self.voters < 1:
            yield "voters", f"is {self.voters}; must be at least 1"
        if self.voters == []:
            yield "voters", "is empty; name finished runs, or how many networks vote"
        elif self.method == "active_rounds" and self.voters != 1:
            yield "voters", "is for self_training: the phase before a round is the one that labels for it; leave it out"
        if self.class_cap is not None and self.class_cap < 1:
            yield "class_cap", f"is {self.class_cap}; must be at least 1"
        if self.views < 0:
            yield "views", f"is {self.views}; must be 0 or more"
        if self.verdict is not None and self.method == "none":
            yield (
                "verdict",
                "is asked for, and semi.method=none has no pool to judge; name a method, or set it to null",
            )


def _set(name: str, value: Any, usual: Any) -> list[str]:
    """A key with its value, or those inside of it, as far as they are not the defaults."""
    if value == usual:
        return []
    if is_dataclass(value):
        parts = [each.name for each in fields(value)]
        return [text for part in parts for text in _set(f"{name}.{part}", getattr(value, part), getattr(usual, part))]
    return [name if isinstance(value, dict) else f"{name}={value}"]
