"""Intervals and paired tests, against scipy and against what they promise."""

import numpy as np
import pytest
from scipy import stats

from vision_train.statistics import (
    bounded_interval,
    exact_bounds,
    mean_interval,
    overlap_of,
    paired_test,
    share_interval,
    wilson_interval,
)

FIRST = [0.90, 0.93, 0.91, 0.95, 0.92]
SECOND = [0.92, 0.94, 0.93, 0.95, 0.95]


def test_the_interval_of_a_mean_is_students():
    result = stats.ttest_1samp(FIRST, 0.0).confidence_interval(0.95)
    assert mean_interval(FIRST) == pytest.approx((result.low, result.high))


def test_a_single_value_has_no_interval():
    with pytest.raises(ValueError, match="at least two values, got 1"):
        mean_interval([0.9])


def test_values_without_spread_have_an_interval_of_no_width():
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_the_paired_test_is_scipys():
    test, scipys = paired_test(FIRST, SECOND), stats.ttest_rel(SECOND, FIRST)
    assert test.difference == pytest.approx(np.mean(SECOND) - np.mean(FIRST))
    assert test.p == pytest.approx(scipys.pvalue)
    assert test.interval == pytest.approx(tuple(scipys.confidence_interval(0.95)))


def test_pairing_takes_out_what_a_seed_does_to_both():
    """Seeds far apart, a small steady gain: the paired test sees it, an unpaired one cannot."""
    luck = np.array([0.1, 0.9, 0.5, 0.3, 0.7])
    gained = luck + np.array([0.010, 0.011, 0.009, 0.012, 0.008])
    assert paired_test(luck.tolist(), gained.tolist()).p < 0.001
    assert stats.ttest_ind(gained, luck).pvalue > 0.9


@pytest.mark.parametrize(
    ("second", "difference", "p"), [([0.9, 0.8], 0.0, 1.0), ([1.0, 0.9], 0.1, None)], ids=["equal", "shifted"]
)
def test_differences_without_spread_are_equal_or_not_tested(second, difference, p):
    test = paired_test([0.9, 0.8], second)
    assert test.difference == pytest.approx(difference)
    assert (test.p, test.interval, test.deviation) == (p, None, 0.0)


def test_a_single_pair_is_not_tested():
    test = paired_test([0.9], [0.95])
    assert (test.p, test.interval) == (None, None)


@pytest.mark.parametrize(("first", "second"), [([], []), ([0.1], [0.1, 0.2])])
def test_values_without_a_partner_are_refused(first, second):
    with pytest.raises(ValueError, match="pairs"):
        paired_test(first, second)


@pytest.mark.parametrize("comparisons", [1, 3])
def test_p_is_below_5_percent_exactly_where_the_interval_excludes_zero(comparisons):
    generator = np.random.default_rng(5)
    for _ in range(200):
        test = paired_test(np.zeros(6).tolist(), generator.normal(0.9, 1.0, 6).tolist(), comparisons)
        assert (test.p < 0.05) == test.interval.excludes_zero


def test_several_intervals_are_bonferronis():
    result = stats.ttest_1samp(FIRST, 0.0).confidence_interval(1 - 0.05 / 4)
    assert mean_interval(FIRST, comparisons=4) == pytest.approx((result.low, result.high))
    assert paired_test(FIRST, SECOND, 4).p == pytest.approx(4 * stats.ttest_rel(SECOND, FIRST).pvalue)


@pytest.mark.slow
def test_the_interval_covers_the_mean_in_95_of_100_studies():
    generator = np.random.default_rng(2)
    samples = generator.normal(0.9, 0.02, size=(2000, 10))
    intervals = [mean_interval(sample.tolist()) for sample in samples]
    covered = np.mean([interval.low <= 0.9 <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.97


@pytest.mark.slow
def test_four_intervals_cover_all_four_means_in_95_of_100_studies():
    generator = np.random.default_rng(4)
    studies = generator.normal(0.0, 1.0, size=(1000, 4, 10))
    covered = [all(not mean_interval(arm.tolist(), 4).excludes_zero for arm in study) for study in studies]
    assert 0.93 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(hits, count, low, high):
    assert wilson_interval(hits / count, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("share", "count"), [(0.5, 0), (1.1, 10), (-0.1, 10), (float("nan"), 10)])
def test_what_is_no_proportion_is_refused(share, count):
    with pytest.raises(ValueError, match="share in"):
        wilson_interval(share, count)


@pytest.mark.parametrize(("count", "total"), [(12, 400), (8, 300), (20, 600)])
def test_the_most_false_alarms_that_allow_a_claim_of_5_percent(count, total):
    assert exact_bounds(count, total).high < 0.05 < exact_bounds(count + 1, total).high


@pytest.mark.parametrize(("count", "total"), [(334, 400), (87, 100)])
def test_the_fewest_found_that_allow_a_claim_of_80_percent(count, total):
    assert exact_bounds(count, total).low > 0.8 > exact_bounds(count - 1, total).low


def test_exact_bounds_at_the_ends():
    assert exact_bounds(0, 20) == pytest.approx((0, 1 - 0.05 ** (1 / 20)))
    assert exact_bounds(20, 20) == pytest.approx((0.05 ** (1 / 20), 1))
    for count, total in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="at least one item"):
            exact_bounds(count, total)


@pytest.mark.parametrize("values", [[0.99, 1.0, 0.98], [0.0, 0.01], [0.5, 0.52, 0.47], [0.1, 0.9]])
def test_intervals_of_shares_hold_the_mean_and_stay_within_what_is_possible(values):
    low, high = mean_interval(values, shares=True)
    assert 0 <= low < np.mean(values) < high <= 1


def test_far_from_the_ends_an_interval_of_a_share_is_that_of_any_mean():
    values = [0.5, 0.503, 0.498, 0.501]
    assert mean_interval(values, shares=True) == pytest.approx(mean_interval(values), abs=1e-5)
    assert share_interval(1.0, 0.1) == (0.9, 1.0)


def test_intervals_of_shares_near_one_cover_as_often_as_they_say():
    generator = np.random.default_rng(0)
    studies = generator.beta(60, 2, size=(2_000, 5))
    intervals = [mean_interval(study.tolist(), shares=True) for study in studies]
    covered = np.mean([low <= 60 / 62 <= high for low, high in intervals])
    assert 0.92 < covered < 0.975


def test_values_of_folds_are_taken_as_dependent():
    """The corrected resampled t test: the variance of the mean is (1/n + 1/(k - 1)) times that of the values."""
    first, second = [0.7, 0.8, 0.75, 0.72, 0.78], [0.75, 0.82, 0.80, 0.75, 0.81]
    plain, folds = paired_test(first, second), paired_test(first, second, overlap=overlap_of(5))
    widths = [test.interval.high - test.interval.low for test in (folds, plain)]
    assert widths[0] / widths[1] == pytest.approx(((1 / 5 + 1 / 4) / (1 / 5)) ** 0.5)
    assert folds.difference == plain.difference
    assert folds.p > plain.p
    assert overlap_of(None) == 0
    assert mean_interval(first, overlap=overlap_of(5)).low < mean_interval(first).low


def test_an_interval_within_bounds_is_as_wide_as_a_symmetric_one_where_bounds_are_far():
    for bounds in ((0.0, None), (None, 100.0), (0.0, 100.0)):
        assert bounded_interval(50.0, 0.1, bounds) == pytest.approx((49.9, 50.1), abs=1e-3)
    assert bounded_interval(50.0, 0.1, (None, None)) == (49.9, 50.1)


@pytest.mark.parametrize("bounds", [(0.0, None), (None, 1.0), (-1.0, 1.0)])
def test_an_interval_stays_within_its_bounds(bounds):
    low, high = bounded_interval(0.5, 0.6, bounds)
    assert bounds[0] is None or low > bounds[0]
    assert bounds[1] is None or high < bounds[1]
    assert low < 0.5 < high


def test_what_is_unsure_by_far_more_than_its_distance_from_the_bound_has_no_interval():
    assert bounded_interval(-0.03, 9.4, (None, 1.0)) is None
    assert mean_interval([1.0, 90.0], bounds=(0.0, None)) == (0.0, mean_interval([1.0, 90.0]).high)
