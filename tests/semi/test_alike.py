"""Boxes that are all alike, and whether that is a collapse."""

import math

import numpy as np
import pytest

from vision_train.semi.alike import alike_share, have_collapsed


def test_the_share_of_boxes_that_are_like_the_middle_one():
    same = np.tile([[0.2, 0.2, 0.6, 0.6]], (9, 1))
    assert alike_share(same) == 1
    assert alike_share(np.concatenate([same, [[0.7, 0.7, 0.9, 0.9]]])) == pytest.approx(0.9)
    assert math.isnan(alike_share(np.zeros((0, 4))))


@pytest.mark.parametrize(
    ("found", "true", "collapsed"),
    [(1.0, 0.1, True), (0.5, 0.1, False), (0.95, 0.92, False), (1.0, math.nan, False), (math.nan, 0.1, False)],
)
def test_boxes_have_collapsed_that_are_nearer_to_one_than_to_true_ones(found, true, collapsed):
    assert have_collapsed(found, true) is collapsed
