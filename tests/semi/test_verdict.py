"""Did the method help, and was it the pool: arithmetic, words, and how often they are wrong in simulated studies.

Items are those of the specification of learning from unlabelled images.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from vision_train.artefacts import Metric
from vision_train.report.judged_metric import describe_judged
from vision_train.semi.verdict import Contrast, PoolVerdict, best_control, contrast, is_at_chance
from vision_train.statistics import Interval, Resampled, resample_mean

METHOD = {0: 0.94, 1: 0.93, 2: 0.95, 3: 0.94, 4: 0.96}
CONTROL = {0: 0.90, 1: 0.90, 2: 0.91, 3: 0.91, 4: 0.91}
ITEMS = resample_mean(np.repeat([0.0, 1.0, 0.0, 0.1], 75))


def made(verdict, other="labelled", difference=0.03):
    return Contrast(other, 5, difference, Interval(0.01, 0.05), Interval(0.01, 0.05), 0.028, verdict)


def test_the_control_is_chosen_on_validation_samples_by_its_mean():
    validation = {"labelled": {0: 0.9, 1: 0.8}, "larger batch": {0: 0.84, 1: 0.88}, "same phases": {0: 0.86, 1: 0.86}}
    assert best_control(validation, "max") == "larger batch", "of equal ones the first"
    assert best_control(validation, "min") == "labelled"
    unknown = {"broken": {0: math.nan, 1: 0.9}, **validation}
    assert best_control(unknown, "max") == "larger batch", "NaN is no metric to be beaten"
    assert best_control(unknown, "min") == "labelled"
    for wrong in ({}, {"labelled": {0: 0.9}, "larger batch": {1: 0.9}}):
        with pytest.raises(ValueError, match="same seeds"):
            best_control(wrong, "max")


def test_a_contrast_is_paired_within_seeds():
    found = contrast("labelled", METHOD, {**CONTROL, 7: 0.1}, ITEMS, "max")
    differences = [METHOD[seed] - CONTROL[seed] for seed in range(5)]
    assert found.seeds == 5
    assert found.difference == pytest.approx(np.mean(differences))
    assert found.detectable == pytest.approx(1.68 * np.std(differences, ddof=1), rel=0.003)
    assert found.interval.low > 0
    assert found.item_interval.low > 0
    assert found.verdict == "better"
    assert contrast("labelled", METHOD, CONTROL, ITEMS, "min").verdict == "worse"


def test_better_takes_test_samples_that_agree():
    vague = Resampled(0.036, np.random.default_rng(0).normal(0.036, 0.05, 500), 300)
    assert contrast("labelled", METHOD, CONTROL, vague, "max").verdict == "ahead"
    assert contrast("labelled", METHOD, CONTROL, None, "max").verdict == "ahead"
    assert contrast("labelled", METHOD, CONTROL, None, "max", own_samples=True).verdict == "better"


def test_comparisons_share_the_level():
    one, four = (contrast("labelled", METHOD, CONTROL, ITEMS, "max", comparisons=count) for count in (1, 4))
    assert four.interval.low < one.interval.low
    assert four.detectable > one.detectable


def test_fewer_than_three_seeds_give_no_verdict():
    with pytest.raises(ValueError, match="at least 3 seeds"):
        contrast("labelled", {0: 0.9, 1: 0.9, 2: 0.9}, {0: 0.8, 1: 0.8, 3: 0.8}, None, "max")


@pytest.mark.parametrize(
    ("method", "pool", "helped"),
    [
        ("better", "better", True),
        ("better", "no measurable difference", False),
        ("better", "ahead", False),
        ("no measurable difference", "better", False),
        ("worse", "better", False),
    ],
)
def test_helped_takes_both_the_method_and_its_pool(method, pool, helped):
    verdict = PoolVerdict("freematch", made(method), made(pool, "self-pool"))
    assert verdict.helped is helped
    assert verdict.summary()["verdict/helped"] is helped


def test_the_summary_names_what_a_reader_looks_for():
    found = PoolVerdict("freematch", made("better"), made("better", "self-pool", 0.041)).summary()
    assert found == {
        "verdict/arm": "freematch",
        "verdict/control": "labelled",
        "verdict/difference": 0.03,
        "verdict/low": 0.01,
        "verdict/high": 0.05,
        "verdict/pool_difference": 0.041,
        "verdict/pool_low": 0.01,
        "verdict/pool_high": 0.05,
        "verdict/detectable": 0.028,
        "verdict/helped": True,
        "verdict/at_chance": False,
    }


def test_what_a_study_could_have_found_is_the_larger_size_since_helped_takes_both():
    small, large = made("better"), replace(made("better", "self-pool"), detectable=0.04)
    assert PoolVerdict("freematch", small, large).detectable == 0.04
    assert PoolVerdict("freematch", large, small).detectable == 0.04
    assert PoolVerdict("freematch", small, replace(large, detectable=None)).detectable == small.detectable


def test_the_sentence_says_what_was_found_and_what_could_have_been():
    verdict = PoolVerdict("FreeMatch with 1,197 unlabelled images", made("better"), made("better", "self-pool", 0.041))
    assert verdict.sentence(300, worth="The pool is worth about 38 more labels (12 to 49).") == (
        "The pool helped. FreeMatch with 1,197 unlabelled images is better: +3.0 points (+1.0 to +5.0; 5 seeds, 300 "
        "test samples) against the best control, labelled; this study could see 2.8 points or more. The pool itself "
        "adds +4.1 points (+1.0 to +5.0). The pool is worth about 38 more labels (12 to 49)."
    )


@pytest.mark.parametrize(
    ("method", "pool", "words"),
    [
        ("worse", "better", "is worse"),
        ("no measurable difference", "better", "More seeds could tell the difference to labelled"),
        ("ahead", "better", "test on more samples"),
        ("better", "no measurable difference", "More seeds could tell the difference to self-pool"),
        ("better", "ahead", "+5.0), not measurably."),
    ],
)
def test_after_a_difference_that_is_not_measurable_the_sentence_says_what_helps(method, pool, words):
    sentence = PoolVerdict("mean teacher", made(method), made(pool, "self-pool")).sentence(300)
    assert words in sentence
    assert ("not measurably different" in sentence) == (method in ("no measurable difference", "ahead"))
    assert sentence.startswith("That the pool helped is not shown.")


def test_a_metric_that_is_no_share_is_written_with_the_digits_that_it_needs():
    precision = describe_judged("test/ap", [Metric("ap", "AP", shown="always")])
    sentence = PoolVerdict("Mean teacher", made("better"), made("ahead", "self-pool", -0.0031)).sentence(
        150, precision.format_difference, ""
    )
    assert "+0.03 (+0.01 to +0.05; 5 seeds" in sentence
    assert "could see 0.028 or more" in sentence
    assert "−0.0031 (" in sentence


@pytest.mark.parametrize(
    ("guessing", "nothing_learnt"),
    [
        ({"labelled": [True] * 5, "freematch": [True] * 5}, True),
        ({"labelled": [True, True, False, True, True], "freematch": [True] * 5}, True),  # one that was lucky
        ({"labelled": [True] * 5, "freematch": [False, False, False, True, True]}, False),
        ({"labelled": [False] * 5, "freematch": [True] * 5}, False),
        ({"labelled": [True, False], "freematch": [True, False]}, False),
    ],
)
def test_nothing_was_learnt_where_most_seeds_of_every_arm_may_guess(guessing, nothing_learnt):
    assert is_at_chance(guessing) is nothing_learnt


@pytest.mark.parametrize("found", ["better", "no measurable difference", "worse"])
def test_a_verdict_on_arms_that_guess_says_first_that_nothing_was_learnt_and_claims_nothing(found):
    verdict = PoolVerdict("FreeMatch", made(found), made(found, "self-pool"), at_chance=True)
    sentence = verdict.sentence(300)
    assert sentence.startswith("Nothing was learnt: in each arm most seeds cannot be told from guessing")
    assert "optim.lr" in sentence
    assert "More seeds could tell" not in sentence
    assert not verdict.helped
    assert verdict.summary()["verdict/at_chance"] is True


def test_arms_that_do_not_differ_at_all_are_said_to_be_the_same():
    same = contrast("self-pool", METHOD, METHOD, ITEMS, "max")
    assert (same.verdict, same.interval, same.detectable) == ("no measurable difference", None, None)
    verdict = PoolVerdict("mean teacher", same, same)
    assert "the same on every seed" in verdict.sentence(300)
    assert "could see" not in verdict.sentence(300)
    assert verdict.summary()["verdict/low"] is None


def verdicts(shift, studies=1000, seeds=5):
    """Simulated studies in which a method's seeds gain ``shift`` standard deviations over those of a control."""
    generator = np.random.default_rng(14)
    luck = generator.normal(0, 1, size=(studies, seeds))
    nothing = dict.fromkeys(range(seeds), 0.0)
    return [
        contrast("control", dict(enumerate(each.tolist())), nothing, None, "max", own_samples=True).verdict
        for each in luck + shift
    ]


@pytest.mark.slow
def test_item_14_false_claims_and_true_ones_are_as_frequent_as_they_should_be():
    assert verdicts(0.0).count("better") <= 36
    assert 770 <= verdicts(1.68).count("better") <= 830
