"""Power and the size of a fresh study, against simulation and textbooks."""

import numpy as np
import pytest
from scipy import stats

from vision_train.statistics import PairedTest, detectable_difference, fresh_study, power, rounded, seeds_needed


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
    """The true deviation lies between 0.69 and 1.83 of the one measured on ten differences (chi-squared, 9 degrees)."""
    seeds = fresh_study(PairedTest(0.5, None, 1.0, 0.15), 10)
    assert seeds == (35, rounded(seeds_needed(0.5, 0.6878)), rounded(seeds_needed(0.5, 1.8256)))
    assert fresh_study(PairedTest(0.001, None, 1.0, 0.9), 10) == (None, None, None)
    assert fresh_study(PairedTest(0.0, None, 1.0, 1.0), 10) is None


def test_counts_are_rounded_to_what_means_something():
    assert [rounded(count) for count in (7, 19, 42, 98, 113, 1449)] == [7, 19, 40, 100, 110, 1400]


@pytest.mark.parametrize(("pairs", "effect"), [(3, 3.26), (5, 1.68), (8, 1.16), (10, 1.00), (15, 0.78), (20, 0.66)])
def test_the_detectable_difference_is_found_in_four_studies_of_five(pairs, effect):
    found = detectable_difference(0.02, pairs)
    assert found / 0.02 == pytest.approx(effect, abs=0.005)
    assert power(found / 0.02, pairs) == pytest.approx(0.8)
    assert detectable_difference(0.0, pairs) == 0


def test_the_more_comparisons_share_the_level_the_larger_is_what_can_be_found():
    assert power(detectable_difference(1.0, 10, 3), 10, 0.05 / 3) == pytest.approx(0.8)
    assert power(detectable_difference(1.0, 2), 2) == pytest.approx(0.8)
