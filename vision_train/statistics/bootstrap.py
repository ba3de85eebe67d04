"""Resampling of test samples: what the metric of the same runs might have been on other samples of the kind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from vision_train.statistics.intervals import SIGNIFICANCE, Bounds, Interval, bounded_interval, share_interval
from vision_train.statistics.metrics import Columns, Statistic

RESAMPLES = 2_000
"""They estimate a standard error, which is then known to 2 %."""
MOST_UNDEFINED = 0.05
"""Share of resamples that may leave a metric undefined, such as AUROC where a resample holds one class alone."""
COUNTS_AT_ONCE = 1_000_000
"""How many numbers of draws a metric is given at a time; more would not be faster."""
DRAWN_AT_ONCE = 100_000
"""How many are drawn at a time: with more, those of large test data no longer fit into a processor's cache."""


class Resampled(NamedTuple):
    """A metric, or a difference of metrics, as observed and in each of R resamples."""

    observed: float
    values: np.ndarray
    """R; NaN where a resample does not define the metric."""
    groups: int
    """How many groups were drawn from, with replacement, in each resample."""


def group_indices(groups: Sequence[str]) -> np.ndarray:
    """N names of groups as N indices, in order of name."""
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def resample_mean(
    items: np.ndarray, groups: np.ndarray | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Resampled:
    """Bootstrap of a mean over test items.

    Args:
        items: N values; for a difference, the differences within each item, so that both arms are resampled on the same
            items.
        groups: N indices from 0 on, without gaps; items of one group are drawn together. None draws each item alone.
        resamples: How many.
        seed: Seed of the draws.

    Raises:
        ValueError: There are no items.
    """
    if not len(items):
        raise ValueError("a bootstrap takes at least one item")
    sums, sizes = items, np.ones(len(items))
    if groups is not None:
        sums, sizes = np.bincount(groups, items), np.bincount(groups).astype(np.float64)
    count, generator = len(sums), np.random.default_rng(seed)
    kinds, places = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_inverse=True)
    if len(kinds) < count:
        # A hit counts the same whichever item it was: drawing how often each value occurs is drawing the items.
        draws = generator.multinomial(count, np.bincount(places.ravel()) / count, size=resamples)
        values = draws @ kinds[:, 0] / (draws @ kinds[:, 1])
    else:
        picked = _picked(count, resamples, generator)
        values = np.concatenate([sums[each].sum(axis=1) / sizes[each].sum(axis=1) for each in picked])
    return Resampled(float(np.mean(items)), values, count)


def resample_statistic(
    statistic: Statistic, columns: Columns, groups: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Resampled:
    """Bootstrap of a metric that is no mean over test items: recomputed from the columns in each resample.

    The draws depend on the groups, ``resamples`` and ``seed`` alone: two results that share these may be subtracted.

    Args:
        statistic: What recomputes the metric.
        columns: N entries in each.
        groups: N indices from 0 on, without gaps; items of one group are drawn together.
        resamples: How many.
        seed: Seed of the draws.
    """
    observed = float(statistic(columns, np.ones((1, len(groups))))[0])
    parts = [
        statistic(columns, counts[:, groups]) for counts in _draws(int(groups.max()) + 1, len(groups), resamples, seed)
    ]
    return Resampled(observed, np.concatenate(parts), int(groups.max()) + 1)


def _draws(groups: int, items: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each group is drawn in each resample, some resamples at a time."""
    generator = np.random.default_rng(seed)
    at_once = max(1, COUNTS_AT_ONCE // items)
    for start in range(0, resamples, at_once):
        picked = _picked(groups, min(at_once, resamples - start), generator)
        yield np.concatenate([_counted(each, groups) for each in picked], dtype=float)


def _picked(groups: int, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Indices of the groups that each resample draws (R G), some resamples at a time."""
    at_once = max(1, DRAWN_AT_ONCE // groups)
    for start in range(0, resamples, at_once):
        yield generator.integers(groups, size=(min(at_once, resamples - start), groups))


def _counted(picked: np.ndarray, groups: int) -> np.ndarray:
    """How often each group is in each row."""
    places = picked + groups * np.arange(len(picked))[:, None]  # each row counts in a place of its own
    return np.bincount(places.ravel(), minlength=picked.size).reshape(picked.shape)


def bootstrap_interval(
    resampled: Resampled,
    comparisons: int = 1,
    *,
    share: bool = False,
    bounds: Bounds = (None, None),
) -> Interval | None:
    """Student's t interval with the bootstrap's standard error: what other test samples of the kind might have shown.

    Percentiles of the resamples are too narrow for few groups: their variance is smaller by 1/n, and they ignore that
    the spread is itself estimated. At the small levels that many comparisons share they would take more resamples.

    Args:
        resampled: A metric or a difference of metrics.
        comparisons: How many share the level of 5 % (Bonferroni).
        share: Whether the metric lies in [0, 1]; the interval then does too, and there is none where all resamples are
            alike, as with an AUROC of exactly 1: they do not say how far off it could be.
        bounds: What the metric can be no less and no more than; nor is the interval then.

    Returns:
        None where there are fewer than two groups, or the metric is undefined on these samples or in more than 5 % of
        the resamples: they then hold too little of a class. Nor is there any where they say too little of a value with
        a single bound (:func:`vision_train.statistics.intervals.bounded_interval`).
    """
    known = resampled.values[~np.isnan(resampled.values)]
    undefined = 1 - len(known) / len(resampled.values)
    if resampled.groups < 2 or math.isnan(resampled.observed) or undefined > MOST_UNDEFINED:
        return None
    freedom = resampled.groups - 1
    half = (
        stats.t.ppf(1 - SIGNIFICANCE / comparisons / 2, freedom) * math.sqrt(resampled.groups / freedom) * known.std()
    )
    if share:
        return share_interval(resampled.observed, float(half)) if half > 0 else None
    return bounded_interval(resampled.observed, float(half), bounds)
