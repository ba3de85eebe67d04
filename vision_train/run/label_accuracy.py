"""How often the labels that a pool gets are right, estimated on validation samples that the same networks label.

These samples also chose the best epoch of the networks, so that the estimate is a little too good; in later rounds more
so, since these networks have learnt the mistakes of the pool and none of validation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vision_train.data.module import SampleDataModule
from vision_train.data.sample import Sample
from vision_train.run.parts import phases_of
from vision_train.run.plan import FinishedPhase, Phase
from vision_train.run.rounds import BURN_IN
from vision_train.semi.answers import Answer
from vision_train.semi.health import Estimate, estimated_accuracy
from vision_train.semi.label_file import PseudoLabel
from vision_train.semi.monitor import DOUBTFUL
from vision_train.wording import count_of, percent

MOST_ASKED = 1000
"""Validation samples that are asked about at most, whatever the pool: an accuracy of 80 % has a standard error of 1.3
points then, and labelling takes no longer than for so many samples more. Our choice."""


def known_samples(data: SampleDataModule) -> Sequence[Sample]:
    """Validation samples to ask about: all, or every n-th where there are more than :data:`MOST_ASKED`."""
    samples = data.samples("val")
    return samples[:: -(-len(samples) // MOST_ASKED) or 1]


def truths_of(answers: Sequence[Answer], samples: Sequence[Sample]) -> list[object]:
    """The truth of each sample that was answered; those that could not be read have no answer."""
    truths = {sample.id: sample.truth for sample in samples}
    return [truths[answer.id] for answer in answers]


@dataclass(frozen=True)
class LabelAccuracy:
    """What validation samples say of the labels of a pool."""

    noun: str
    """What samples are, in the plural."""
    asked: int
    """Validation samples that were asked about."""
    estimate: Estimate | None
    """How often labels that would be kept are right; None where none would be."""
    burn_in: float | None
    """Share of all of them that the burn-in has right; None where there was none."""

    @property
    def sentence(self) -> str:
        """The estimate, in words."""
        asked = count_of(self.asked, f"validation {self.noun}")
        if self.estimate is None:
            return f"How many are right is not known: the same rule keeps no label of {asked}."
        kept, (low, high) = round(self.estimate.images), self.estimate.interval
        beside = (
            "" if self.burn_in is None else f" The burn-in has {percent(self.burn_in)} of all validation labels right."
        )
        return (
            f"Estimated on {asked}: of the {kept:,} whose labels the same networks and rule keep, "
            f"{percent(self.estimate.accuracy)} are right ({percent(low)} to {percent(high)}).{beside}"
        )

    def warning(self, fewer: str) -> str:
        """That many of the labels are wrong, or more than the burn-in gets wrong; empty where neither is so.

        Args:
            fewer: Key of the recipe by which fewer labels are kept.
        """
        found = self.estimate
        if found is None:
            return ""
        burn_in = math.nan if self.burn_in is None else self.burn_in  # nothing is below what is not known
        below = found.interval.high < burn_in
        if found.accuracy >= DOUBTFUL and not below:
            return ""
        (low, high), kept = found.interval, count_of(round(found.images), f"validation {self.noun}")
        beside = f", and the burn-in has {percent(burn_in)} of all right" if below else ""
        return (
            f"of pseudo-labels such as are learnt from, {percent(found.accuracy)} are right on {kept} "
            f"({percent(low)} to {percent(high)}){beside}; train longer before the pool is labelled (semi.burn_in), or "
            f"keep fewer ({fewer})"
        )


def label_accuracy(
    phase: Phase,
    finished: Sequence[FinishedPhase],
    labels: Sequence[PseudoLabel],
    right: Sequence[bool],
    *,
    noun: str,
    metric: str,
) -> LabelAccuracy:
    """Estimate how often the labels that a phase learns from are right.

    Args:
        phase: The phase.
        finished: The phases before it.
        labels: Of validation samples, by the rule of the pool.
        right: Whether each is the truth.
        noun: What samples are, in the plural.
        metric: The validation metric that says how often labels of all samples are right.
    """
    burn_in = next((each for each in phases_of(phase.part, finished) if each.name == BURN_IN), None)
    kept = torch.tensor([float(each.kept) for each in labels])
    return LabelAccuracy(
        noun,
        len(labels),
        estimated_accuracy(kept, torch.tensor(right)) if labels else None,
        None if burn_in is None else burn_in.figures.get(f"val/{metric}"),
    )
