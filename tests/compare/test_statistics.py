"""Intervals, tests and power, against scipy and against what they promise."""

import numpy as np
import pytest
from scipy import stats

from vision_train.compare.comparison import Pair, compare_pairs
from vision_train.compare.statistics import (
    detectable_difference,
    holm,
    item_interval,
    judge,
    mean_interval,
    paired_test,
    power,
    seeds_needed,
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


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("difference", "p", "mode", "verdict"),
    [
        (0.1, 0.01, "max", "better"),
        (0.1, 0.01, "min", "worse"),
        (-0.1, 0.01, "min", "better"),
        (-0.1, 0.01, "max", "worse"),
        (0.1, 0.05, "max", "no measurable difference"),
        (0.1, None, "max", "not tested"),
    ],
)
def test_verdicts(difference, p, mode, verdict):
    assert judge(difference, p, mode) == verdict


def test_power_is_the_share_of_studies_that_find_the_effect():
    generator = np.random.default_rng(0)
    samples = generator.normal(0.9, 1.0, size=(4000, 12))
    found = (stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05).mean()
    assert power(0.9, 12) == pytest.approx(found, abs=0.02)


@pytest.mark.parametrize("comparisons", [1, 3])
def test_the_seeds_needed_are_the_fewest_with_the_power(comparisons):
    seeds = seeds_needed(0.5, 1.0, comparisons)
    assert power(0.5, seeds, 0.05 / comparisons) >= 0.8 > power(0.5, seeds - 1, 0.05 / comparisons)


def test_seeds_needed_of_a_textbook_case():
    """An effect of half a standard deviation takes 34 pairs (Cohen 1988, table 2.4.1, and G*Power)."""
    assert seeds_needed(0.5, 1.0) == 34


def test_seeds_needed_at_the_ends():
    assert seeds_needed(50.0, 1.0) == 2
    assert seeds_needed(1e-6, 1.0) is None


def test_the_detectable_difference_is_found_four_times_in_five():
    assert power(detectable_difference(2.0, 10) / 2.0, 10) == pytest.approx(0.8, abs=1e-6)


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


@pytest.mark.slow
def test_the_interval_covers_the_mean_in_95_of_100_studies():
    generator = np.random.default_rng(2)
    samples = generator.normal(0.9, 0.02, size=(2000, 10))
    intervals = [mean_interval(sample.tolist()) for sample in samples]
    covered = np.mean([interval.low <= 0.9 <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.97


def simulated_studies(gain: float, studies: int, arms: int = 2, seeds: int = 10) -> list[list[str]]:
    """Verdicts of studies in which every further arm gains so much and luck moves each run by 0.01."""
    generator = np.random.default_rng(3)
    verdicts = []
    for _ in range(studies):
        shared = generator.normal(0.9, 0.03, size=seeds)
        runs = [shared + (gain if arm else 0.0) + generator.normal(0, 0.01, size=seeds) for arm in range(arms)]
        values = [dict(enumerate(run.tolist())) for run in runs]
        pairs = [Pair(f"arm {arm}", "arm 0", values[arm], values[0]) for arm in range(1, arms)]
        verdicts.append([comparison.verdict for comparison in compare_pairs(pairs, "max")])
    return verdicts


@pytest.mark.slow
@pytest.mark.parametrize("arms", [2, 4])
def test_planted_nulls_raise_a_false_alarm_in_5_of_100_studies_however_many_arms(arms):
    studies = simulated_studies(gain=0.0, studies=200, arms=arms)
    alarms = sum(any(verdict != "no measurable difference" for verdict in study) for study in studies)
    assert 0 < alarms < 21  # of 200 studies at 5 %, 999 times in 1,000


@pytest.mark.slow
def test_a_planted_difference_is_found():
    verdicts = [verdict for (verdict,) in simulated_studies(gain=0.02, studies=50)]
    assert verdicts.count("better") >= 48
    assert "worse" not in verdicts


def test_a_difference_found_carries_no_call_for_more_seeds_and_a_null_does():
    first = {0: 0.90, 1: 0.92, 2: 0.91, 3: 0.93, 4: 0.90}
    gained = {0: 0.95, 1: 0.96, 2: 0.97, 3: 0.97, 4: 0.95}
    jumbled = {0: 0.92, 1: 0.91, 2: 0.92, 3: 0.92, 4: 0.91}
    better, null = compare_pairs([Pair("a", "f", gained, first), Pair("b", "f", jumbled, first)], "max")
    assert better.verdict == "better"
    assert better.wins == 5
    assert null.verdict == "no measurable difference"
    assert null.seeds_needed > 5
    assert null.detectable > 0
    assert better.adjusted_p == pytest.approx(2 * better.p)


def test_only_seeds_that_both_have_are_compared_and_each_with_its_own():
    arm = Pair("a", "f", {3: 0.5, 1: 0.7, 9: 0.0}, {1: 0.6, 3: 0.3, 5: 1.0})
    (comparison,) = compare_pairs([arm], "min")
    assert comparison.seeds == 2
    assert comparison.difference == pytest.approx(0.15)
    assert comparison.wins == 0
