"""Intervals of means and shares, and the paired test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from scipy import special, stats

SIGNIFICANCE = 0.05
FARTHEST = 2.0
"""Times its distance from a bound that an estimate may be unsure by; the delta method knows nothing of more."""
Bounds = tuple[float | None, float | None]
"""What a value can be no less and no more than; None where there is no such bound."""
SAME = 1e-9
"""Differences that spread by less than this share of the values differ by rounding alone."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of it lies on one side."""
        return self.low > 0 or self.high < 0


class PairedTest(NamedTuple):
    """A difference over pairs; interval and p are None where the pairs allow no test."""

    difference: float
    """Mean of second minus first."""
    interval: Interval | None
    deviation: float
    """Standard deviation of the differences; NaN for a single pair."""
    p: float | None
    """Below 0.05 exactly if the interval excludes 0."""


def share_interval(share: float, half: float) -> Interval:
    """An interval of a share that stays within [0, 1]: symmetric on the logit scale, where it is as wide at the share.

    Args:
        share: The estimate, in [0, 1].
        half: Half the width that the interval would have if it were symmetric about the share (delta method).
    """
    if not 0 < share < 1:
        return Interval(max(share - half, 0.0), min(share + half, 1.0))
    middle, reach = special.logit(share), half / (share * (1 - share))
    return Interval(float(special.expit(middle - reach)), float(special.expit(middle + reach)))


def bounded_interval(value: float, half: float, bounds: Bounds) -> Interval | None:
    """An interval that stays within bounds, symmetric on a scale without them: the log of the distance, or the logit.

    Args:
        value: The estimate, within the bounds.
        half: Half the width that the interval would have if it were symmetric about the value (delta method).
        bounds: Of the value.

    Returns:
        None where it has a single bound, and is unsure by more than :data:`FARTHEST` times its distance from that.
    """
    low, high = bounds
    if low is None and high is None:
        return Interval(value - half, value + half)
    if low is None:
        mirrored = _above(-value, half, -cast(float, high))
        return mirrored and Interval(-mirrored.high, -mirrored.low)
    if high is None:
        return _above(value, half, low)
    width = high - low
    share = share_interval((value - low) / width, half / width)
    return Interval(low + width * share.low, low + width * share.high)


def _above(value: float, half: float, low: float) -> Interval | None:
    distance = value - low
    if distance <= 0:
        return Interval(low, low + half)
    if half > FARTHEST * distance:
        return None
    factor = math.exp(half / distance)
    return Interval(low + distance / factor, low + distance * factor)


def overlap_of(folds: int | None) -> float:
    """Tested samples for each that is not tested, 1/(k - 1): what dependent folds add to the error of a mean.

    This is n2/n1 of Nadeau and Bengio, where n1 counts what the procedure of training is given. To cut validation from
    it, to choose an epoch by that and to draw few labels are parts of the procedure, so these samples count, though no
    gradient is taken of them. What is cut or not drawn makes runs share no more than the correction assumes; to count
    only samples that are learnt from would widen the interval as runs share less (docs/statistics.md has both,
    measured). A ``val`` that the data name lies in no fold and is not counted: every run has it.

    Args:
        folds: How many folds hold all samples; None for runs that are not folds of one another.
    """
    return 0.0 if folds is None else 1 / (folds - 1)


def mean_interval(
    values: Sequence[float],
    comparisons: int = 1,
    *,
    shares: bool = False,
    bounds: Bounds = (None, None),
    overlap: float = 0.0,
) -> Interval:
    """Student's t interval of a mean, at 95 % or, for one of several comparisons, at 1 - 0.05 / their number.

    Runs of folds learn from samples that they have in common, so that their values are no independent draws. The
    variance of the mean of n of them is taken as (1/n + overlap) times that of the values instead of 1/n: the corrected
    resampled t test of Nadeau and Bengio (Inference for the generalization error, Machine Learning 52, 2003), with n
    folds of r divisions as in Bouckaert and Frank (PAKDD 2004).

    Args:
        values: At least two.
        comparisons: How many share the level of 5 % (Bonferroni).
        shares: Whether the values lie in [0, 1]; the interval then does too (:func:`share_interval`).
        bounds: Of the values; the interval stays within them, and is cut where the values say little.
        overlap: Tested samples for each that is not tested (:func:`overlap_of`); 0 for independent values.

    Raises:
        ValueError: Fewer than two values: one says nothing about how far another might lie.
    """
    if len(values) < 2:
        raise ValueError(f"an interval takes at least two values, got {len(values)}")
    mean, error = float(np.mean(values)), _error_of_mean(values, overlap)
    if error == 0:
        return Interval(mean, mean)
    half = float(stats.t.ppf(1 - SIGNIFICANCE / comparisons / 2, len(values) - 1)) * error
    if shares:
        return share_interval(mean, half)
    if found := bounded_interval(mean, half, bounds):
        return found
    low, high = bounds
    return Interval(
        max(mean - half, -math.inf if low is None else low), min(mean + half, math.inf if high is None else high)
    )


def _error_of_mean(values: Sequence[float], overlap: float) -> float:
    return float(np.std(values, ddof=1)) * math.sqrt(1 / len(values) + overlap)


def paired_test(
    first: Sequence[float], second: Sequence[float], comparisons: int = 1, *, overlap: float = 0.0
) -> PairedTest:
    """Paired t test of two arms over the same seeds, second minus first.

    Differences that are the same for every seed have no spread to test against. Where they are all zero the arms are
    equal (p = 1); where they are not, there is no p, rather than one of zero.

    Args:
        first: Values in the order of the seeds.
        second: Values of the same seeds.
        comparisons: How many share the level of 5 % (Bonferroni).
        overlap: Tested samples for each that is not tested, where the pairs are folds; see :func:`mean_interval`.

    Raises:
        ValueError: No pairs, or values that have no partner.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"pairs of values are compared, got {len(first)} and {len(second)}")
    differences = np.subtract(second, first)
    mean = float(differences.mean())
    if len(first) < 2:
        return PairedTest(mean, None, math.nan, None)
    if np.ptp(differences) <= SAME * np.abs([first, second]).max():
        equal = bool(np.allclose(first, second, rtol=SAME, atol=0))
        return PairedTest(mean, None, 0.0, 1.0 if equal else None)
    t = mean / _error_of_mean(differences.tolist(), overlap)
    p = min(1.0, comparisons * 2 * float(stats.t.sf(abs(t), len(first) - 1)))
    interval = mean_interval(differences.tolist(), comparisons, overlap=overlap)
    return PairedTest(mean, interval, float(differences.std(ddof=1)), p)


def wilson_interval(share: float, count: int) -> Interval:
    """95 % interval of a proportion by Wilson's score method, which keeps its coverage near 0 and 1 and for few items.

    Args:
        share: Observed proportion, in [0, 1].
        count: Number of independent items it was observed on, at least 1.

    Raises:
        ValueError: There are no items, or the share is no proportion.
    """
    if count < 1 or not 0 <= share <= 1:
        raise ValueError(f"a share in [0, 1] of at least one item has an interval, got {share} of {count}")
    found = stats.binomtest(round(share * count), count).proportion_ci(1 - SIGNIFICANCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def exact_bounds(count: int, total: int) -> Interval:
    """One-sided 95 % bounds of a proportion by Clopper and Pearson, which hold for any number of items.

    Each bound holds by itself: with 12 of 400 the proportion is below 5 %, and with 334 of 400 above 80 %, at 95 %
    confidence. They are for claims such as "at most" and "at least"; :func:`wilson_interval` is for estimates.

    Args:
        count: Items that have the property.
        total: Number of independent items, at least 1.

    Raises:
        ValueError: There are no items, or more have the property than there are.
    """
    if total < 1 or not 0 <= count <= total:
        raise ValueError(f"some of at least one item have bounds, got {count} of {total}")
    low = stats.beta.ppf(SIGNIFICANCE, count, total - count + 1) if count else 0.0
    high = stats.beta.ppf(1 - SIGNIFICANCE, count + 1, total - count) if count < total else 1.0
    return Interval(float(low), float(high))
