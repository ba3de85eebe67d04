"""Power of the paired t test, and how many seeds a fresh study takes."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

from scipy import optimize, stats

from vision_train.statistics.intervals import SIGNIFICANCE, PairedTest

POWER = 0.8
"""Share of studies that find a difference that is there; the usual choice (Cohen 1988)."""
MOST_SEEDS = 10_000
"""A study that would need more than this is out of reach, and its exact size of no use."""
FEWEST_SEEDS_TO_PLAN_BY = 5
"""From fewer, the spread of the differences is too poorly known to say how many seeds could tell."""


class SeedsNeeded(NamedTuple):
    """Seeds of a fresh study, rounded; None for more than ``MOST_SEEDS``."""

    about: int | None
    low: int | None
    high: int | None
    """Ends of what the 95 % interval of the spread makes of ``about``."""


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


def detectable_difference(deviation: float, pairs: int, comparisons: int = 1) -> float:
    """The smallest difference that a paired t test finds in 80 % of studies of this size.

    Args:
        deviation: Standard deviation of the differences within pairs.
        pairs: At least 2.
        comparisons: How many share the level of 5 % (Bonferroni).
    """
    return _detectable_effect(pairs, SIGNIFICANCE / comparisons) * deviation


@cache
def _detectable_effect(pairs: int, level: float) -> float:
    """The same in units of the standard deviation."""
    high = 1.0
    while power(high, pairs, level) < POWER:
        high *= 2
    return float(optimize.brentq(lambda effect: power(effect, pairs, level) - POWER, 0, high))


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
