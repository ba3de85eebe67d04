"""When a teacher's health is worth a warning, and when its pseudo-labels do more harm than good."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vision_train.semi.consistency import MOST
from vision_train.semi.health import Estimate, PoolFigures, distance_to_prior, normalised_entropy
from vision_train.wording import count_of, percent

ALIKE = 0.02
"""Difference of mean confidences up to which validation images and pool are told apart by nothing that matters: of a
network that has learnt next to nothing all confidences are about those of guessing, in whatever order."""
FLOOD = 0.98
"""Share that a fixed threshold accepts at its first reading, above which it sorts nothing out."""
DOUBTFUL, WRONG = 0.8, 0.5
"""Estimated accuracy of accepted labels. Collapsed runs showed 0.12 to 0.3."""
POINTS = 0.03
"""How far a score has to fall, besides two standard errors, before pseudo-labels are no longer added."""
UNEVEN, COLLAPSED = 0.8, 0.5
"""Entropy of the labels, as a share of that of the labelled set."""
STRANGERS, ONE = 0.7, 0.999
"""Agreement of student and teacher: below the first they see different things, above the second they are one."""
HEAVY = 1.0
"""Loss of the pool over that of labelled images."""
FOREIGN, COPIED = 0.65, 0.35
"""Separation of validation and pool by confidence. Pools of the same kind showed 0.50, shuffled pixels and letters 0.80
to 0.87, copies of training images 0.24 to 0.27."""
COPIES = 0.01
"""Share of the pool that may be copies of labelled images."""
TWICE = 2
ORIGIN = "origin"
"""Figure of the sign that the pool comes from elsewhere, or is known already."""


@dataclass(frozen=True)
class Sign:
    """A figure outside of what is healthy."""

    figure: str
    """Short name, such as ``accepted share``."""
    message: str
    """What is wrong and what mends it, without a full stop."""
    stops: bool = False
    """Whether pseudo-labels are not to be added while it lasts."""


@dataclass(frozen=True)
class Reading:
    """What is known at a validation; None for what was not measured."""

    pool: PoolFigures
    estimate: Estimate | None = None
    """Accuracy of accepted labels on validation images."""
    score: float | None = None
    """Validation metric of the teacher, such that more is better, on a scale from 0 to 1."""
    score_error: float | None = None
    """Standard error of the score."""


Rule = Callable[[Reading], Iterator[Sign]]
"""Finds what is not healthy in a reading."""


@dataclass(frozen=True)
class Judgement:
    """What a reading says."""

    signs: tuple[Sign, ...]
    stop: bool
    """Whether the pool is to weigh nothing until the next reading."""
    changed: bool
    """Whether that is different from what the reading before said."""
    noun: str = "images"
    """What the samples are, in the plural."""

    @property
    def messages(self) -> list[str]:
        """One message for each sign, and one for what changes."""
        said = [sign.message for sign in self.signs]
        if self.changed and self.stop:
            causes = ", ".join(sign.figure for sign in self.signs if sign.stops)
            alone = f"the run goes on with labelled {self.noun} alone"
            said.append(f"pseudo-labels are no longer added ({causes}); {alone}")
        elif self.changed:
            said.append("the figures have recovered, and pseudo-labels are added again")
        return said


class Monitor:
    """Judges the readings of a run, one at each validation after burn-in.

    It never ends a run. While it says stop the loss of the pool is to have no weight; steps, schedule and counting go
    on, so that the figures can recover.

    Args:
        classes: Names of the classes.
        prior: Share of each among labelled images.
        fixed_threshold: Whether the threshold is the same during the whole run.
        start_score: Score of the teacher at the end of burn-in, as in :attr:`Reading.score`; None if there was none.
        noun: What the samples are, in the plural.
    """

    figures: ClassVar[type[PoolFigures]] = PoolFigures
    """What it reads."""

    def __init__(
        self,
        classes: Sequence[str],
        prior: Sequence[float],
        *,
        fixed_threshold: bool = False,
        start_score: float | None = None,
        noun: str = "images",
    ) -> None:
        self.classes = list(classes)
        self.prior = list(prior)
        self.fixed_threshold = fixed_threshold
        self.start_score = start_score
        self.noun = noun
        self.readings = 0
        self.wrong = 0
        """Readings in a row at which accepted labels were mostly wrong."""
        self.fallen = 0
        """Readings in a row at which the score had fallen far."""
        self.always_one = True
        """Whether student and teacher agreed on everything at every reading."""
        self.stopped = False

    def judge(self, reading: Reading) -> Judgement:
        """Judge a reading, in the order in which the run took them."""
        self.readings += 1
        signs = tuple(sign for rule in self.rules() for sign in rule(reading))
        stop = any(sign.stops for sign in signs)
        changed, self.stopped = stop != self.stopped, stop
        return Judgement(signs, stop, changed, self.noun)

    def rules(self) -> Sequence[Rule]:
        """What a reading is held against, in the order of the messages."""
        return (
            self._finite,
            self._accepted,
            self._accuracy,
            self._score,
            self._classes,
            self._never_accepted,
            self._agreement,
            self._losses,
        )

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know, in plain types."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the readings of a checkpoint.

        Raises:
            KeyError: An entry is missing.
        """
        for name in _STATE:
            setattr(self, name, state[name])

    def _finite(self, reading: Reading) -> Iterator[Sign]:
        if reading.pool.not_finite:
            yield Sign(
                "finite outputs",
                f"the teacher returned values that are not finite for {reading.pool.not_finite} of "
                f"{reading.pool.images} {self.noun} of the pool; lower the learning rate, or train with precision "
                "32-true",
                stops=True,
            )

    def _accepted(self, reading: Reading) -> Iterator[Sign]:
        if reading.pool.accepted == 0:
            threshold = "the threshold (semi.threshold), or " if self.fixed_threshold else ""
            yield Sign(
                "accepted share",
                f"none of the {self.noun} of the pool was accepted since the last validation. Label smoothing and "
                f"mixing keep confidence low: lower {threshold}method.label_smoothing, or the weights of "
                "augment.mixing",
            )
        elif self.fixed_threshold and self.readings == 1 and reading.pool.accepted > FLOOD:
            yield Sign(
                "accepted share",
                f"the threshold accepted {percent(reading.pool.accepted, 1)} of the pool at once, so it sorts nothing "
                "out; raise it (semi.threshold)",
            )

    def _accuracy(self, reading: Reading) -> Iterator[Sign]:
        found = reading.estimate
        self.wrong = self.wrong + 1 if found is not None and found.accuracy < WRONG else 0
        if found is not None and found.accuracy < DOUBTFUL:
            yield Sign(
                "accuracy of accepted labels",
                f"of labels that the teacher would accept, {percent(found.accuracy)} are right on validation "
                f"{self.noun} ({percent(found.interval.low)} to {percent(found.interval.high)}); train longer on "
                f"labelled {self.noun} alone before the pool is used (semi.burn_in){self._or_threshold('raise')}",
                stops=self.wrong >= TWICE,
            )

    def _score(self, reading: Reading) -> Iterator[Sign]:
        if self.start_score is None or reading.score is None or reading.score_error is None:
            return
        drop, error = self.start_score - reading.score, reading.score_error
        self.fallen = self.fallen + 1 if drop > 2 * error and drop > POINTS else 0
        if drop > error:
            yield Sign(
                "score of the teacher",
                f"the teacher's validation score is {reading.score:.3f}, and was {self.start_score:.3f} before the "
                f"pool was used; lower the weight of the pool, or train longer on labelled {self.noun} alone "
                "(semi.burn_in)",
                stops=self.fallen >= TWICE,
            )

    def _classes(self, reading: Reading) -> Iterator[Sign]:
        found, expected = reading.pool.label_entropy, normalised_entropy(self.prior)
        if found < UNEVEN * expected:
            distance = distance_to_prior(reading.pool.label_shares, self.prior)
            change = "Use thresholds that follow each class (freematch), or train" if self.fixed_threshold else "Train"
            yield Sign(
                "classes of pseudo-labels",
                f"pseudo-labels gather in few classes: {percent(distance)} of them would have to change class for the "
                f"frequencies of the labelled {self.noun}. {change} longer on those alone (semi.burn_in)",
                stops=found < COLLAPSED * expected,
            )

    def _never_accepted(self, reading: Reading) -> Iterator[Sign]:
        if reading.pool.accepted > 0 and reading.pool.never_accepted:
            names = [self.classes[index] for index in reading.pool.never_accepted]
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            yield Sign(
                "classes never accepted",
                f"nothing in the pool was accepted as {shown} since the last validation; label more {self.noun} of "
                f"these classes{self._or_threshold('lower')}",
            )

    def _or_threshold(self, change: str) -> str:
        """A remedy that only methods have whose threshold is the user's; others find their own, or have none."""
        return f", or {change} the threshold (semi.threshold)" if self.fixed_threshold else ""

    def _agreement(self, reading: Reading) -> Iterator[Sign]:
        agreement = reading.pool.agreement
        if math.isnan(agreement):
            return
        self.always_one &= agreement > ONE
        if agreement < STRANGERS:
            yield Sign(
                "agreement",
                f"student and teacher agree on {percent(agreement)} of the pool; the average follows too slowly or the "
                "learning rate is too high: shorten the half-life, or lower optim.lr",
            )
        elif self.always_one and self.readings >= TWICE:
            yield Sign(
                "agreement",
                f"student and teacher have agreed on all {self.noun} so far: the teacher teaches nothing that the "
                "student does not know; lengthen its half-life",
            )

    def _losses(self, reading: Reading) -> Iterator[Sign]:
        if reading.pool.loss_ratio > HEAVY:
            yield Sign(
                "ratio of the losses",
                f"the loss of the pool is {reading.pool.loss_ratio:,.1f} times that of labelled {self.noun}; it counts "
                f"for at most {MOST:g} times. Lower its weight (semi.weight)",
            )


_STATE = ("start_score", "readings", "wrong", "fallen", "always_one", "stopped")


def origin_signs(
    separation: float,
    validation: float,
    pool: float,
    copies: int,
    size: int,
    error: float = 0.0,
    noun: str = "images",
) -> list[Sign]:
    """Judge where the pool comes from, at the end of burn-in, before its first step.

    Args:
        separation: Of validation images and pool by the teacher's confidence, from :func:`health.separation`.
        validation: Mean of the highest probability over validation images.
        pool: Likewise over the pool.
        copies: Samples of the pool that are copies of labelled ones.
        size: Samples of the pool.
        error: Standard error of the separation of few samples that come from one place.
        noun: What samples are, in the plural.
    """
    signs = []
    told = abs(separation - 0.5) > TWICE * error and abs(validation - pool) > ALIKE
    sure = f"the teacher is sure of {validation:.2f} on average of validation {noun} and of {pool:.2f} of the pool"
    if told and separation > FOREIGN:
        unlike = f"leave out {noun} that are unlike the labelled ones"
        signs.append(Sign(ORIGIN, f"the pool looks foreign: {sure}; {unlike}"))
    elif told and separation < COPIED:
        signs.append(
            Sign(ORIGIN, f"the pool looks like copies of training {noun}: {sure}; use {noun} that have no label yet")
        )
    if copies > COPIES * size:
        counted = f"{count_of(copies, noun)} ({percent(copies / size, 1)})"
        signs.append(Sign("copies", f"the pool has copies of labelled {noun}: {counted}; leave them out"))
    return signs
