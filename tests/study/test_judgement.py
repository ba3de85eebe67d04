"""Verdicts, and how often they are wrong in simulated studies."""

import numpy as np
import pytest

from vision_train.statistics import judge, paired_test, resample_mean
from vision_train.study.judgement import Pair, compare_pair

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
        differences = [None if own_samples else resample_mean((of_arm - hits[0]).mean(axis=0)) for of_arm in hits]
        pairs = [
            Pair(f"arm {arm}", "arm 0", values[arm], values[0], IMAGES, differences[arm], own_samples=own_samples)
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
    better = compared(gained, first, comparisons=2, resampled=resample_mean(np.full(IMAGES, 0.05)))
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
