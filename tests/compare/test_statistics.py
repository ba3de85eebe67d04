"""Intervals, tests and power, against scipy and against what they promise."""

import numpy as np
import pytest
from scipy import stats

from vision_train.compare.statistics import (
    Interval,
    Pair,
    PairedTest,
    compare_pair,
    fresh_study,
    item_interval,
    judge,
    mean_interval,
    paired_test,
    power,
    rounded,
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


ABOVE, ACROSS = Interval(0.01, 0.2), Interval(-0.01, 0.2)


@pytest.mark.parametrize(
    ("difference", "seeds", "items", "mode", "verdict"),
    [
        (0.1, ABOVE, ABOVE, "max", "better"),
        (0.1, ABOVE, ABOVE, "min", "worse"),
        (-0.1, Interval(-0.2, -0.01), Interval(-0.2, -0.01), "min", "better"),
        (-0.1, Interval(-0.2, -0.01), Interval(-0.2, -0.01), "max", "worse"),
        (0.1, ABOVE, ACROSS, "max", "ahead"),
        (0.1, ABOVE, None, "min", "behind"),
        (0.1, ACROSS, ABOVE, "max", "no measurable difference"),
    ],
)
def test_verdicts(difference, seeds, items, mode, verdict):
    assert judge(PairedTest(difference, seeds, 0.1, 0.5), items, mode) == verdict


@pytest.mark.parametrize(
    ("difference", "seeds", "mode", "verdict"),
    [
        (0.1, ABOVE, "max", "better"),
        (0.1, ABOVE, "min", "worse"),
        (0.1, ACROSS, "max", "no measurable difference"),
        (0.1, None, "max", "no measurable difference"),
    ],
)
def test_seeds_with_test_samples_of_their_own_decide_alone(difference, seeds, mode, verdict):
    assert judge(PairedTest(difference, seeds, 0.1, 0.5), None, mode, own_samples=True) == verdict


def test_without_a_test_there_is_no_verdict():
    assert judge(paired_test([0.1], [0.2]), ABOVE, "max") == "not tested"
    assert judge(paired_test([0.1], [0.2]), None, "max", own_samples=True) == "not tested"
    assert judge(paired_test([0.1, 0.2], [0.1, 0.2]), None, "max") == "no measurable difference"


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


def test_the_range_of_seeds_is_that_of_the_spread():
    """Of ten differences the deviation lies between 0.69 and 1.83 of the one seen (chi-squared, 9 degrees)."""
    seeds = fresh_study(PairedTest(0.5, None, 1.0, 0.15), 10)
    assert seeds == (35, rounded(seeds_needed(0.5, 0.6878)), rounded(seeds_needed(0.5, 1.8256)))
    assert fresh_study(PairedTest(0.001, None, 1.0, 0.9), 10) == (None, None, None)
    assert fresh_study(PairedTest(0.0, None, 1.0, 1.0), 10) is None


def test_counts_are_rounded_to_what_means_something():
    assert [rounded(count) for count in (7, 19, 42, 98, 113, 1449)] == [7, 19, 40, 100, 110, 1400]


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


@pytest.mark.slow
def test_four_intervals_cover_all_four_means_in_95_of_100_studies():
    generator = np.random.default_rng(4)
    studies = generator.normal(0.0, 1.0, size=(1000, 4, 10))
    covered = [all(not mean_interval(arm.tolist(), 4).excludes_zero for arm in study) for study in studies]
    assert 0.93 <= np.mean(covered) <= 0.98


IMAGES = 300


def simulated_studies(
    gain: float, studies: int, arms: int = 2, seeds: int = 10, own_samples: bool = False
) -> list[list[str]]:
    """Verdicts of studies whose every further arm gains so much on images at large, measured on 300 test images.

    Each image has a chance of a hit, which an arm moves for each image alone and a seed for all images and arms alike:
    accuracies come in steps of 1/300, and the test images may favour an arm that is not better. They are those of the
    study, or each seed has its own.
    """
    tested = (seeds, IMAGES) if own_samples else IMAGES
    generator = np.random.default_rng(3)
    verdicts = []
    for _ in range(studies):
        ease = generator.uniform(0.6, 1.0, tested)
        luck = generator.normal(0, 0.03, size=(seeds, 1))
        hits = []
        for arm in range(arms):
            taste = generator.normal(gain if arm else 0.0, 0.3, tested)
            hits.append((generator.uniform(size=(seeds, IMAGES)) < ease + taste + luck).astype(float))
        values = [dict(enumerate(of_arm.mean(axis=1).tolist())) for of_arm in hits]
        differences = [None if own_samples else (of_arm - hits[0]).mean(axis=0) for of_arm in hits]
        pairs = [
            Pair(f"arm {arm}", "arm 0", values[arm], values[0], IMAGES, differences[arm], own_samples)
            for arm in range(1, arms)
        ]
        verdicts.append([compare_pair(pair, "max", len(pairs)).verdict for pair in pairs])
    return verdicts


@pytest.mark.slow
@pytest.mark.parametrize("arms", [2, 4])
def test_planted_nulls_raise_a_false_alarm_in_at_most_5_of_100_studies_however_many_arms(arms):
    studies = simulated_studies(gain=0.0, studies=200, arms=arms)
    alarms = sum(bool({"better", "worse"} & {*study}) for study in studies)
    ahead = sum(bool({"ahead", "behind"} & {*study}) for study in studies)
    assert alarms < 21  # of 200 studies at 5 %, 999 times in 1,000
    assert ahead > alarms, "these test images do favour arms, and the seeds alone would have called them better"


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "seeds"), [(2, 3), (2, 10), (4, 5)])
def test_planted_nulls_on_test_images_of_each_seed_raise_no_more_false_alarms(arms, seeds):
    studies = simulated_studies(gain=0.0, studies=300, arms=arms, seeds=seeds, own_samples=True)
    alarms = sum(bool({"better", "worse"} & {*study}) for study in studies)
    assert alarms <= 28  # of 300 studies at 5 %, 999 times in 1,000


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread"), [(3, 1), (5, 1), (5, 3), (10, 1), (10, 3)])
def test_accuracies_in_steps_of_an_image_raise_no_more_false_alarms(seeds, spread):
    """Hits that differ by few images have few values, which a t interval does not know of."""
    generator = np.random.default_rng(6)
    verdicts = []
    for _ in range(1000):
        first = np.round(270 + generator.normal(0, 3, seeds))
        second = np.round(first + generator.normal(0, spread, seeds))
        test = paired_test((first / IMAGES).tolist(), (second / IMAGES).tolist())
        verdicts.append(judge(test, None, "max"))
    alarms = sum(verdict in ("ahead", "behind") for verdict in verdicts)
    assert alarms <= 72  # of 1,000 studies at 5 %, 999 times in 1,000


@pytest.mark.slow
@pytest.mark.parametrize("own_samples", [False, True])
def test_a_planted_difference_is_found(own_samples):
    verdicts = [verdict for (verdict,) in simulated_studies(gain=0.15, studies=50, own_samples=own_samples)]
    assert verdicts.count("better") >= 48
    assert "worse" not in verdicts


def compared(values: dict[int, float], first: dict[int, float], mode: str = "max", comparisons: int = 1, **pair):
    return compare_pair(Pair("a", "f", values, first, IMAGES, **pair), mode, comparisons)


def test_a_difference_found_carries_no_call_for_more_seeds_and_a_null_does():
    first = {0: 0.90, 1: 0.92, 2: 0.91, 3: 0.93, 4: 0.90}
    gained = {0: 0.95, 1: 0.96, 2: 0.97, 3: 0.97, 4: 0.95}
    jumbled = {0: 0.92, 1: 0.91, 2: 0.92, 3: 0.92, 4: 0.91}
    better = compared(gained, first, comparisons=2, item_differences=np.full(IMAGES, 0.05))
    assert (better.verdict, better.wins, better.seeds_needed) == ("better", 5, None)
    assert (better.mean, better.first_mean) == (pytest.approx(0.96), pytest.approx(0.912))
    null = compared(jumbled, first, comparisons=2)
    assert null.verdict == "no measurable difference"
    assert null.seeds_needed.low < null.seeds_needed.about < null.seeds_needed.high
    few = compared({seed: jumbled[seed] for seed in range(4)}, first)
    assert few.seeds_needed is None


def test_a_failure_on_either_side_keeps_from_judging():
    first = {0: 0.90, 1: 0.92, 2: 0.91}
    gained = {0: 0.95, 1: 0.96, 2: 0.97}
    assert compared(gained, first, failed=2).verdict == "failed"
    assert compared(gained, first, first_failed=1).verdict == "failed"


def test_only_seeds_that_both_have_are_compared_and_each_with_its_own():
    comparison = compared({3: 0.5, 1: 0.7, 9: 0.0}, {1: 0.6, 3: 0.3, 5: 1.0}, "min")
    assert comparison.seeds == 2
    assert comparison.difference == pytest.approx(0.15)
    assert comparison.wins == 0
