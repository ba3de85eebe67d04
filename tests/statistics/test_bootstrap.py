"""The interval over test samples."""

import math

import numpy as np
import pytest

from vision_train.statistics import (
    Resampled,
    bootstrap_interval,
    group_indices,
    mean_interval,
    registered_statistic,
    resample_mean,
    resample_statistic,
)


def item_interval(items, groups=None, comparisons=1):
    return bootstrap_interval(resample_mean(items, groups), comparisons)


def test_the_bootstrap_agrees_with_the_standard_error_of_a_share():
    hits = np.repeat([0.0, 1.0], [60, 240])
    low, high = item_interval(hits)
    error = np.sqrt(0.8 * 0.2 / 300)
    assert (low, high) == pytest.approx((0.8 - 1.96 * error, 0.8 + 1.96 * error), abs=0.006)


def test_the_bootstrap_of_distinct_values_agrees_with_that_of_repeated_ones():
    generator = np.random.default_rng(1)
    values = generator.normal(size=200)
    rounded = np.round(values, 1)
    assert item_interval(values) == pytest.approx(item_interval(rounded), abs=0.03)
    assert item_interval(np.full(5, 0.5)) == (0.5, 0.5)
    assert item_interval(values) == item_interval(values)
    with pytest.raises(ValueError, match="at least one item"):
        item_interval(np.array([]))


def test_the_interval_of_a_mean_agrees_with_students_whatever_the_level():
    values = np.random.default_rng(3).normal(size=12)
    for comparisons in (1, 200):
        expected = mean_interval(values.tolist(), comparisons)
        assert item_interval(values, comparisons=comparisons) == pytest.approx(expected, abs=0.1)


def test_items_of_a_group_are_drawn_together():
    """Twenty copies of each of 30 values say no more than the values themselves."""
    values = np.random.default_rng(4).normal(size=30)
    groups = np.repeat(np.arange(30), 20)
    together, alone = item_interval(np.repeat(values, 20), groups), item_interval(np.repeat(values, 20))
    assert together == pytest.approx(item_interval(values), abs=0.03)
    assert together.high - together.low > 4 * (alone.high - alone.low)


def test_groups_of_unequal_size_agree_with_the_error_of_a_ratio():
    generator = np.random.default_rng(5)
    sizes = generator.integers(1, 9, 200)
    groups = np.repeat(np.arange(200), sizes)
    values = generator.normal(size=200)[groups] + generator.normal(size=len(groups))
    residuals = np.bincount(groups, values - values.mean()) / sizes.mean()
    found = resample_mean(values, groups)
    assert found.observed == pytest.approx(values.mean())
    assert found.values.std() == pytest.approx(residuals.std() / math.sqrt(200), rel=0.07)


def test_a_recomputed_mean_is_the_mean():
    values, groups = np.random.default_rng(6).normal(size=40), group_indices([f"{index // 4}" for index in range(40)])
    recomputed = resample_statistic(registered_statistic("mean"), {"value": values.tolist()}, groups)
    direct = resample_mean(values, groups)
    assert (recomputed.observed, recomputed.groups) == (pytest.approx(direct.observed), 10)
    assert recomputed.values.std() == pytest.approx(direct.values.std(), rel=0.06)


def test_many_items_in_parts_are_drawn_as_in_one(monkeypatch):
    values, groups = np.random.default_rng(7).normal(size=40).tolist(), np.arange(40)
    whole = resample_statistic(registered_statistic("mean"), {"value": values}, groups, resamples=50)
    monkeypatch.setattr("vision_train.statistics.bootstrap.COUNTS_AT_ONCE", 300)
    parts = resample_statistic(registered_statistic("mean"), {"value": values}, groups, resamples=50)
    assert parts.values == pytest.approx(whole.values)


def test_a_metric_that_resamples_often_leave_undefined_has_no_interval():
    often, rarely = np.linspace(0, 1, 200), np.linspace(0, 1, 200)
    often[:20], rarely[:4] = math.nan, math.nan
    assert bootstrap_interval(Resampled(0.5, often, 40)) is None
    assert bootstrap_interval(Resampled(0.5, rarely, 40)) is not None
    assert bootstrap_interval(Resampled(math.nan, rarely, 40)) is None
    assert bootstrap_interval(Resampled(0.5, np.full(200, 0.5), 1)) is None
