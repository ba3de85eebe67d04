"""What seeds and test items say of a difference: intervals, tests, power, verdicts. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

SIGNIFICANCE = 0.05
POWER = 0.8
"""Share of studies that find a difference that is there; the usual choice (Cohen 1988)."""
MOST_SEEDS = 10_000
"""A study that would need more than this is out of reach, and its exact size of no use."""
FEWEST_SEEDS_TO_PLAN_BY = 5
"""From fewer, the spread of the differences is too poorly known to say how many seeds could tell."""
RESAMPLES = 4_000
SAME = 1e-9
"""Differences that spread by less than this share of the values differ by rounding alone."""

Verdict = Literal["better", "worse", "ahead", "behind", "no measurable difference", "failed", "not tested"]
"""``ahead``, ``behind``: on these test samples, not shown for others. ``failed``: on seeds that the other finished."""


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


class SeedsNeeded(NamedTuple):
    """Seeds of a fresh study, rounded; None for more than ``MOST_SEEDS``."""

    about: int | None
    low: int | None
    high: int | None
    """Ends of what the 95 % interval of the spread makes of ``about``."""


@dataclass(frozen=True)
class Pair:
    """An arm and the first one, with what both measured."""

    name: str
    first: str
    values: dict[int, float]
    """Seed -> the headline metric of the arm."""
    first_values: dict[int, float]
    test_samples: int
    item_differences: np.ndarray | None = None
    """N test items: the arm minus the first, averaged over the seeds of both; None if nothing is known of items."""
    own_samples: bool = False
    """Whether each seed has test samples of its own, so that values over the seeds spread as samples do too."""
    failed: int = 0
    """Seeds on which the arm failed and the first did not."""
    first_failed: int = 0
    looks: tuple[int, ...] = ()
    """Smaller numbers of seeds at which the two were judged before."""

    @property
    def seeds(self) -> list[int]:
        """Seeds that both have."""
        return sorted(self.values.keys() & self.first_values.keys())


@dataclass(frozen=True)
class Comparison:
    """An arm against the first, over the seeds that both have finished."""

    name: str
    first: str
    seeds: int
    failed: int
    first_failed: int
    mean: float
    """Of the arm, over these seeds."""
    first_mean: float
    difference: float
    """Mean over the seeds of the arm minus the first."""
    interval: Interval | None
    """Over the seeds; those of all comparisons hold together with 95 %. None where they allow no test."""
    p: float | None
    """Of the paired test, times the number of comparisons."""
    wins: int
    """Seeds on which the arm is better."""
    ties: int
    item_interval: Interval | None
    """Of the difference over test items, for these very runs; those of all comparisons hold together with 95 %."""
    test_samples: int
    own_samples: bool
    """Whether each seed has test samples of its own, which the interval over the seeds then covers too."""
    seeds_needed: SeedsNeeded | None
    """To find a difference of this size in 80 % of fresh studies; None where nothing needs or allows saying so."""
    looks: tuple[int, ...]
    verdict: Verdict


def compare_pair(pair: Pair, mode: str, comparisons: int = 1) -> Comparison:
    """Compare an arm with the first and judge it: the more are judged together, the stronger each has to be.

    Args:
        pair: With at least one seed in common.
        mode: ``max`` if more is better, ``min`` if less is.
        comparisons: How many share the level of 5 % (Bonferroni).
    """
    first, second = ([values[seed] for seed in pair.seeds] for values in (pair.first_values, pair.values))
    test = paired_test(first, second, comparisons)
    items = None if pair.item_differences is None else item_interval(pair.item_differences, comparisons)
    failed = pair.failed or pair.first_failed
    verdict: Verdict = "failed" if failed else judge(test, items, mode, pair.own_samples)
    gains = [(theirs - ours) * (1 if mode == "max" else -1) for ours, theirs in zip(first, second, strict=True)]
    planned = verdict == "no measurable difference" and len(gains) >= FEWEST_SEEDS_TO_PLAN_BY
    return Comparison(
        name=pair.name,
        first=pair.first,
        seeds=len(gains),
        failed=pair.failed,
        first_failed=pair.first_failed,
        mean=float(np.mean(second)),
        first_mean=float(np.mean(first)),
        difference=test.difference,
        interval=test.interval,
        p=test.p,
        wins=sum(gain > 0 for gain in gains),
        ties=sum(gain == 0 for gain in gains),
        item_interval=items,
        test_samples=pair.test_samples,
        own_samples=pair.own_samples,
        seeds_needed=fresh_study(test, len(gains), comparisons) if planned else None,
        looks=pair.looks,
        verdict=verdict,
    )


def mean_interval(values: Sequence[float], comparisons: int = 1) -> Interval:
    """Student's t interval of a mean, at 95 % or, for one of several comparisons, at 1 - 0.05 / their number.

    Raises:
        ValueError: Fewer than two values: one says nothing about how far another might lie.
    """
    if len(values) < 2:
        raise ValueError(f"an interval takes at least two values, got {len(values)}")
    mean, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0:
        return Interval(mean, mean)
    low, high = stats.t.interval(1 - SIGNIFICANCE / comparisons, len(values) - 1, loc=mean, scale=error)
    return Interval(float(low), float(high))


def paired_test(first: Sequence[float], second: Sequence[float], comparisons: int = 1) -> PairedTest:
    """Paired t test of two arms over the same seeds, second minus first.

    Differences that are the same for every seed have no spread to test against. Where they are all zero the arms are
    equal (p = 1); where they are not, there is no p, rather than one of zero.

    Args:
        first: Values in the order of the seeds.
        second: Values of the same seeds.
        comparisons: How many share the level of 5 % (Bonferroni).

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
    p = min(1.0, comparisons * float(stats.ttest_rel(second, first).pvalue))
    interval = mean_interval(differences.tolist(), comparisons)
    return PairedTest(mean, interval, float(differences.std(ddof=1)), p)


def judge(test: PairedTest, items: Interval | None, mode: str, own_samples: bool = False) -> Verdict:
    """The verdict on a difference, second minus first.

    Args:
        test: Over the seeds.
        items: Interval of the difference over test items; None if nothing is known of items.
        mode: ``max`` if more is better, ``min`` if less is.
        own_samples: Whether each seed has test samples of its own: then the seeds alone decide.
    """
    if test.p is None:
        return "not tested"
    if test.interval is None or not test.interval.excludes_zero:
        return "no measurable difference"
    gained = (test.difference > 0) == (mode == "max")
    if own_samples or (items is not None and items.excludes_zero):
        return "better" if gained else "worse"
    return "ahead" if gained else "behind"


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
        difference: Mean of the differences; not zero.
        deviation: Their standard deviation; not zero.
        comparisons: How many share the level of 5 % (Bonferroni).

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


def fresh_study(test: PairedTest, pairs: int, comparisons: int = 1) -> SeedsNeeded | None:
    """How many seeds a fresh study would take to find a difference of the size of this one.

    The range follows from the 95 % interval of the spread (chi-squared); the size itself is taken as seen.

    Args:
        test: Over the seeds.
        pairs: How many these are; at least 2.
        comparisons: How many share the level of 5 % (Bonferroni).

    Returns:
        None where the differences are zero on average or do not spread.
    """
    if test.difference == 0 or not test.deviation > 0:
        return None
    freedom = pairs - 1
    factors = [1.0, *(math.sqrt(freedom / stats.chi2.ppf(share, freedom)) for share in (0.975, 0.025))]
    counts = [seeds_needed(test.difference, factor * test.deviation, comparisons) for factor in factors]
    return SeedsNeeded(*(None if count is None else rounded(count) for count in counts))


def rounded(count: int) -> int:
    """A count to the digits that mean something: fives below 100, then two digits."""
    step = 1 if count < 20 else 5 if count < 100 else int(10 ** (math.floor(math.log10(count)) - 1))
    return step * round(count / step)


def item_interval(items: np.ndarray, comparisons: int = 1, seed: int = 0) -> Interval:
    """Bootstrap interval of a mean over test items, for these very runs: what other items of the kind might have shown.

    Args:
        items: N values, one for each test item and averaged over the seeds; for a difference, the differences within
            each item, so that both arms are resampled on the same items.
        comparisons: How many share the level of 5 % (Bonferroni).
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
    tail = SIGNIFICANCE / comparisons / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))
