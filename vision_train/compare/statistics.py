"""What seeds and test items say about a difference: intervals, paired tests, power. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize, stats

SIGNIFICANCE = 0.05
CONFIDENCE = 1 - SIGNIFICANCE
POWER = 0.8
"""Share of studies that find a difference that is there; the usual choice (Cohen 1988)."""
MOST_SEEDS = 10_000
"""A study that would need more than this is out of reach, and its exact size of no use."""
RESAMPLES = 2_000
SAME = 1e-9
"""Differences that spread by less than this share of the values differ by rounding alone."""

Verdict = Literal["better", "worse", "no measurable difference", "not tested"]


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """A difference over pairs; interval and p are None where the pairs allow no test."""

    difference: float
    """Mean of second minus first."""
    interval: Interval | None
    deviation: float
    """Standard deviation of the differences; NaN for a single pair."""
    p: float | None


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of a mean.

    Raises:
        ValueError: Fewer than two values: one says nothing about how far another might lie.
    """
    if len(values) < 2:
        raise ValueError(f"an interval takes at least two values, got {len(values)}")
    mean, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0:
        return Interval(mean, mean)
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, loc=mean, scale=error)
    return Interval(float(low), float(high))


def paired_test(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Paired t test of two arms over the same seeds, second minus first.

    Differences that are the same for every seed have no spread to test against. Where they are all zero the arms are
    equal (p = 1); where they are not, there is no p, rather than one of zero.

    Args:
        first: Values in the order of the seeds.
        second: Values of the same seeds.

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
    p = float(stats.ttest_rel(second, first).pvalue)
    return PairedTest(mean, mean_interval(differences.tolist()), float(differences.std(ddof=1)), p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p values for being several (Holm 1979): the chance of any false alarm among them stays what it was.

    A comparison that could not be tested has no p value and does not count.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def judge(difference: float, adjusted_p: float | None, mode: str) -> Verdict:
    """The verdict on a difference, second minus first.

    Args:
        difference: Over the seeds.
        adjusted_p: Of the paired test, adjusted for the number of comparisons; None if there was no test.
        mode: ``max`` if more is better, ``min`` if less is.
    """
    if adjusted_p is None:
        return "not tested"
    if adjusted_p >= SIGNIFICANCE:
        return "no measurable difference"
    return "better" if (difference > 0) == (mode == "max") else "worse"


def power(effect: float, pairs: int, significance: float = SIGNIFICANCE) -> float:
    """Chance that a two-sided paired t test finds an effect.

    Args:
        effect: Mean of the differences in units of their standard deviation.
        pairs: At least 2.
        significance: Level of the test.
    """
    freedom = pairs - 1
    critical = stats.t.ppf(1 - significance / 2, freedom)
    centre = abs(effect) * math.sqrt(pairs)
    # Beyond this the test cannot miss, and scipy's noncentral t loses its digits.
    return 1.0 if centre > critical + 30 else float(stats.nct.sf(critical, freedom, centre))


def seeds_needed(difference: float, deviation: float, comparisons: int = 1) -> int | None:
    """Seeds at which a paired t test would find a difference of this size in 80 % of studies.

    Args:
        difference: Mean of the paired differences.
        deviation: Their standard deviation, above 0.
        comparisons: Number of comparisons that share the level of the test (Bonferroni).

    Returns:
        At least 2; None if 10,000 seeds would not do.
    """
    effect, level = abs(difference) / deviation, SIGNIFICANCE / comparisons
    low, high = 1, 2
    while power(effect, high, level) < POWER:
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, level) >= POWER else (middle, high)
    return high


def detectable_difference(deviation: float, pairs: int, comparisons: int = 1) -> float:
    """The difference that a paired t test over so many seeds finds in 80 % of studies.

    Args:
        deviation: Standard deviation of the paired differences.
        pairs: At least 2.
        comparisons: Number of comparisons that share the level of the test (Bonferroni).
    """
    level = SIGNIFICANCE / comparisons
    largest = 2.0
    while power(largest, pairs, level) < POWER:
        largest *= 2
    effect = optimize.brentq(lambda effect: power(effect, pairs, level) - POWER, 0.0, largest)
    return float(effect) * deviation


def item_interval(items: np.ndarray, seed: int = 0) -> Interval:
    """Bootstrap interval of a mean over test items, for these very runs: what other items of the kind might have shown.

    Args:
        items: N values, one for each test item and averaged over the seeds; for a difference, the differences within
            each item, so that both arms are resampled on the same items.
        seed: Of the resampling.

    Raises:
        ValueError: There are no items.
    """
    if not len(items):
        raise ValueError("a bootstrap takes at least one item")
    values, places = np.unique(items, return_inverse=True)
    if len(values) == 1:
        return Interval(float(values[0]), float(values[0]))
    generator = np.random.default_rng(seed)
    if len(values) < len(items):
        # A hit counts the same whichever item it was: drawing how often each value occurs is drawing the items.
        shares = np.bincount(places) / len(items)
        means = generator.multinomial(len(items), shares, size=RESAMPLES) @ values / len(items)
    else:
        means = np.array([generator.choice(items, len(items)).mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [SIGNIFICANCE / 2, 1 - SIGNIFICANCE / 2])
    return Interval(float(low), float(high))
