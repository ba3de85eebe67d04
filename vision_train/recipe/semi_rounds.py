"""The keys of active rounds in the `semi` section of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vision_train.data.kind import Problems

Reinitialisation = Literal["keep", "fresh", "pretrained", "burn_in", "shrink_perturb"]
Score = Literal["faithfulness", "robustness", "confidence"]


@dataclass(frozen=True)
class SemiRounds:
    """How rounds of `active_rounds` score, select and begin."""

    count: int = 4
    """Rounds after burn-in, of equal length. Each asks the weights of the one before about the whole pool anew."""
    most: float = 0.8
    """Share of the pool that the last round may take; round r of T takes at most r / T of that."""
    policy: Literal["refresh", "cumulative"] = "refresh"
    """What becomes of what earlier rounds took. `refresh`: the whole pool is asked again, and each round selects anew.
    `cumulative`: it stays as it is, and a round asks about the rest alone, up to the share of all that it may take."""
    scores: Literal["default", "paper_like", "calibrated"] | list[Score] = "default"
    """By what images are selected. `default`: what ranked right labels highest in our prototypes, for classes the
    largest of the mean probabilities over views; for boxes, how well those of several views agree. `paper_like`:
    faithfulness, robustness and confidence, which ACTRESS names; that they weigh the same is our choice. `calibrated`:
    the same three, each weighing as much as it knows of validation samples before the round (`max(0, 2 AUROC - 1)` for
    right labels against wrong ones). Detectors are never scored by faithfulness: it is not known of them. A list takes
    the scores that it names; they weigh the same."""
    reinitialise: dict[str, Reinitialisation] = field(default_factory=dict)
    """What becomes of tensors before each round, by globs over their names; the first that matches counts, and what
    none matches is kept. `fresh`: the network's own initialisers. `pretrained`: what training started from. `burn_in`:
    what burn-in ended with. `shrink_perturb`: half of the value plus a tenth of a fresh one. Where a value is
    replaced wholly, rounds must be as long as burn-in. None is the default: on digits each of them lost accuracy."""

    def problems(self) -> Problems:
        """Yield numbers outside their range."""
        if self.scores == []:
            yield "scores", "is empty; name one score at least, or set it to default"
        if self.count < 1:
            yield "count", f"is {self.count}; must be at least 1"
        if not 0 < self.most <= 1:
            yield "most", f"is {self.most}; a share of the pool lies above 0 and not above 1"
