"""Arms against the first one: from values over seeds to a verdict. Pure functions of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vision_train.compare import statistics
from vision_train.compare.statistics import Interval, Verdict


@dataclass(frozen=True)
class Pair:
    """An arm and the first one, with what both measured."""

    name: str
    first: str
    values: dict[int, float]
    """Seed -> the headline metric of the arm."""
    first_values: dict[int, float]
    item_differences: np.ndarray | None = None
    """N test items: the arm minus the first, averaged over the seeds of both; None if nothing is known of items."""

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
    difference: float
    """Mean over the seeds of the arm minus the first."""
    interval: Interval | None
    """Over the seeds; None where they allow no test."""
    p: float | None
    adjusted_p: float | None
    """By Holm's method, for all comparisons of the study."""
    wins: int
    """Seeds on which the arm is better."""
    ties: int
    item_interval: Interval | None
    """Of the difference over test items, for these very runs."""
    seeds_needed: int | None
    """Seeds that find a difference of this size in 80 % of studies; None if that is out of reach or unknown."""
    detectable: float | None
    """The difference that these seeds find in 80 % of studies; None if unknown."""
    verdict: Verdict


def compare_pairs(pairs: Sequence[Pair], mode: str) -> list[Comparison]:
    """Compare and judge all pairs of a study together: the more there are, the stronger each has to be.

    Args:
        pairs: Each with at least one seed in common.
        mode: ``max`` if more is better, ``min`` if less is.
    """
    tests = [
        statistics.paired_test([p.first_values[seed] for seed in p.seeds], [p.values[seed] for seed in p.seeds])
        for p in pairs
    ]
    adjusted = statistics.holm([test.p for test in tests])
    tested = sum(test.p is not None for test in tests)
    return [_comparison(pair, test, p, tested, mode) for pair, test, p in zip(pairs, tests, adjusted, strict=True)]


def _comparison(
    pair: Pair, test: statistics.PairedTest, adjusted_p: float | None, tested: int, mode: str
) -> Comparison:
    sign = 1 if mode == "max" else -1
    gains = [sign * (pair.values[seed] - pair.first_values[seed]) for seed in pair.seeds]
    spread = test.deviation > 0
    differs = spread and test.difference != 0
    items = pair.item_differences
    return Comparison(
        name=pair.name,
        first=pair.first,
        seeds=len(gains),
        difference=test.difference,
        interval=test.interval,
        p=test.p,
        adjusted_p=adjusted_p,
        wins=sum(gain > 0 for gain in gains),
        ties=sum(gain == 0 for gain in gains),
        item_interval=None if items is None else statistics.item_interval(items),
        seeds_needed=statistics.seeds_needed(test.difference, test.deviation, tested) if differs else None,
        detectable=statistics.detectable_difference(test.deviation, len(gains), tested) if spread else None,
        verdict=statistics.judge(test.difference, adjusted_p, mode),
    )
