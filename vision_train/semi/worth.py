"""What a pool is worth in labels: how many more labels would have done as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vision_train.statistics import Interval, mean_interval

RESAMPLES = 2_000
LEVEL = 0.9
ROUNDING = 1e-9
"""Slope up to which a curve is flat: that of equal errors is not 0 but for rounding."""


@dataclass(frozen=True)
class Worth:
    """How many more labels a labelled-only run would take to err as little."""

    labels: int
    """n, the labels that the method had."""
    more: float
    """Median over the seeds of n* - n; negative where the method errs more than its labels alone."""
    interval: Interval
    """90 %, bootstrap over the seeds."""

    @property
    def sentence(self) -> str:
        """The worth in words. Beyond n nothing is said but that: curves flatten, and more was not measured."""
        if self.more < 0:
            least, most = -self.interval.high, -self.interval.low
            return f"The pool costs the worth of {-self.more:.0f} labels ({least:.0f} to {most:.0f})."
        low, high = (self._shown(end) for end in self.interval)
        if self.more > self.labels:
            return f"The pool is worth {self._shown(self.more)} more labels ({low} to {high})."
        return f"The pool is worth about {self.more:.0f} more labels ({low} to {high})."

    def _shown(self, count: float) -> str:
        return f"more than {self.labels}" if count > self.labels else f"{count:.0f}"


def worth_in_labels(
    counts: Sequence[int],
    errors: Sequence[Sequence[float]],
    method_errors: Sequence[float],
    labels: int,
    seed: int = 0,
) -> Worth | None:
    """Read off a labelled-only learning curve how many labels err as little as the method.

    For each seed ``err = c * n^-b`` is fitted to the curve by least squares of logarithms, and
    ``n* = (c / err of the method)^(1/b)``.

    Args:
        counts: Numbers of labels on the curve, in nested subsets, such as n/4, n/2, n.
        errors: S seeds x as many test errors as counts, above 0.
        method_errors: Test error of the method on the same seeds, at least 0.
        labels: n, the labels that the method had.
        seed: Of the bootstrap.

    Returns:
        None where it cannot be said: the curve does not fall beyond doubt (b is not above 0 within its 95 % interval
        over the seeds, or for a seed), or an error of 0 lies on it.

    Raises:
        ValueError: There are fewer than two seeds or counts, or their numbers do not fit.
    """
    curve, reached = np.asarray(errors, dtype=np.float64), np.asarray(method_errors, dtype=np.float64)
    if len(reached) < 2 or len(counts) < 2 or curve.shape != (len(reached), len(counts)):
        raise ValueError(f"a curve takes at least two seeds and counts, got errors of shape {curve.shape}")
    if not (curve > 0).all():
        return None
    slopes, starts = np.polynomial.polynomial.polyfit(np.log(counts), np.log(curve).T, 1)[::-1]
    falls = -slopes
    if mean_interval(falls.tolist()).low <= ROUNDING or falls.min() <= ROUNDING:
        return None
    with np.errstate(divide="ignore", over="ignore"):
        more = np.exp((starts - np.log(reached)) / falls) - labels
    draws = np.random.default_rng(seed).integers(len(more), size=(RESAMPLES, len(more)))
    # A seed without an error is worth any number of labels, and its infinity must not meet another in a difference.
    medians = np.median(np.minimum(more, np.finfo(np.float64).max / 4)[draws], axis=1)
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Worth(labels, float(np.median(more)), Interval(float(low), float(high)))


def worth_sentence(
    counts: Sequence[int], errors: Sequence[Sequence[float]], method_errors: Sequence[float], labels: int
) -> str:
    """How many labels the pool is worth, or that it cannot be said; for the arguments see :func:`worth_in_labels`."""
    worth = worth_in_labels(counts, errors, method_errors, labels)
    if worth is None:
        return "What the pool is worth in labels cannot be said: more labels did not lower the error beyond doubt."
    return worth.sentence
