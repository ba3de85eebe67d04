"""An arm against the first: what both measured, and the verdict. Pure functions of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vision_train.statistics import (
    FEWEST_SEEDS_TO_PLAN_BY,
    Interval,
    Resampled,
    SeedsNeeded,
    Verdict,
    bootstrap_interval,
    fresh_study,
    judge,
    overlap_of,
    paired_test,
)
from vision_train.study.plan import Draw


@dataclass(frozen=True)
class Pair:
    """An arm and the first one, with what both measured."""

    name: str
    first: str
    values: Mapping[Draw, float]
    """Draw -> the headline metric of the arm."""
    first_values: Mapping[Draw, float]
    test_samples: int
    resampled: Resampled | None = None
    """The arm minus the first, averaged over the seeds of both, in each resample of the test samples; None if the
    metric cannot be computed of single test samples."""
    noun: str = "samples"
    """What the test samples are, in the plural."""
    folds: int | None = None
    """Folds that each seed divides the samples into; None without."""
    is_share: bool = False
    """Whether the metric lies in [0, 1], so that no difference is beyond 1."""
    own_samples: bool = False
    """Whether each seed has test samples of its own, so that values over the seeds spread as samples do too."""
    failed: int = 0
    """Draws on which the arm failed and the first did not."""
    first_failed: int = 0
    earlier_readings: tuple[int, ...] = ()
    """Smaller numbers of seeds at which the two were judged before."""

    @property
    def draws(self) -> list[Draw]:
        """Draws that both have."""
        return sorted(self.values.keys() & self.first_values.keys())


@dataclass(frozen=True)
class Comparison:
    """An arm against the first, over the draws that both have finished: seeds, or folds of seeds."""

    name: str
    first: str
    seeds: int
    """How many draws these are."""
    folds: int | None
    """As in the pair."""
    failed: int
    first_failed: int
    mean: float
    """Mean of the arm over these draws."""
    first_mean: float
    difference: float
    """Mean over the draws of the arm minus the first."""
    interval: Interval | None
    """Interval over the draws; those of all comparisons hold together with 95 %. None where they allow no test."""
    p: float | None
    """p of the paired test, times the number of comparisons."""
    wins: int
    """Draws on which the arm is better."""
    ties: int
    item_interval: Interval | None
    """Interval of the difference over test samples, for these very runs; those of all comparisons hold together with
    95 %."""
    test_samples: int
    noun: str
    """What the test samples are, in the plural."""
    test_groups: int | None
    """How many groups of test samples were resampled; as many as samples where each is alone, None where none were."""
    own_samples: bool
    """Whether each draw has test samples of its own, which the interval over the draws then covers too."""
    seeds_needed: SeedsNeeded | None
    """To find a difference of this size in 80 % of fresh studies; None where nothing needs or allows saying so."""
    earlier_readings: tuple[int, ...]
    verdict: Verdict


def compare_pair(pair: Pair, mode: str, comparisons: int = 1) -> Comparison:
    """Compare an arm with the first and judge it: the more are judged together, the stronger each has to be.

    Args:
        pair: With at least one seed in common.
        mode: ``max`` if more is better, ``min`` if less is.
        comparisons: How many share the level of 5 % (Bonferroni).
    """
    first, second = ([values[draw] for draw in pair.draws] for values in (pair.first_values, pair.values))
    test = paired_test(first, second, comparisons, overlap=overlap_of(pair.folds))
    items = None if pair.resampled is None else bootstrap_interval(pair.resampled, comparisons)
    failed = pair.failed or pair.first_failed
    verdict: Verdict = "failed" if failed else judge(test, items, mode, pair.own_samples)
    gains = [(theirs - ours) * (1 if mode == "max" else -1) for ours, theirs in zip(first, second, strict=True)]
    # More seeds divide the same samples anew: they cannot bring the error below what the samples leave.
    planned = verdict == "no measurable difference" and len(gains) >= FEWEST_SEEDS_TO_PLAN_BY and not pair.folds
    return Comparison(
        name=pair.name,
        first=pair.first,
        seeds=len(gains),
        folds=pair.folds,
        failed=pair.failed,
        first_failed=pair.first_failed,
        mean=float(np.mean(second)),
        first_mean=float(np.mean(first)),
        difference=test.difference,
        interval=_possible(test.interval, pair.is_share),
        p=test.p,
        wins=sum(gain > 0 for gain in gains),
        ties=sum(gain == 0 for gain in gains),
        item_interval=_possible(items, pair.is_share),
        test_samples=pair.test_samples,
        noun=pair.noun,
        test_groups=pair.resampled and pair.resampled.groups,
        own_samples=pair.own_samples,
        seeds_needed=fresh_study(test, len(gains), comparisons) if planned else None,
        earlier_readings=pair.earlier_readings,
        verdict=verdict,
    )


def _possible(interval: Interval | None, is_share: bool) -> Interval | None:
    """An interval of a difference, cut to what a difference of shares can be."""
    if interval is None or not is_share:
        return interval
    return Interval(max(interval.low, -1.0), min(interval.high, 1.0))
