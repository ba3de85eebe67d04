"""Verdicts from what is known over seeds and over test samples."""

import pytest

from vision_train.statistics import Interval, PairedTest, judge, paired_test

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
