"""Attention as numbers: ranks, and the largest ones; nothing but attention passes for it."""

import numpy as np
import pytest

from vision_train.report.bags.attention_values import attention_values, hottest, rank_shares


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ([0.5, np.nan, np.inf], "2 of 3"),
        ([1.0, -1e-9], "behind the softmax"),
        ([], "shape"),
        ([[0.5, 0.5]], "shape"),
    ],
)
def test_what_is_no_attention_is_refused(attention, message):
    with pytest.raises(ValueError, match=message):
        attention_values(np.array(attention))


def test_ranks_are_shares_of_the_others():
    assert rank_shares(np.array([0.1, 0.7, 0.2])).tolist() == [0, 1, 0.5]
    assert rank_shares(np.array([0.2, 0.2, 0.6])).tolist() == [0.25, 0.25, 1]
    assert rank_shares(np.full(7, 1 / 7)).tolist() == [0.5] * 7
    assert rank_shares(np.ones(1)).tolist() == [0.5]


def test_the_hottest_come_first_and_ties_in_their_order():
    assert hottest(np.array([0.1, 0.3, 0.3, 0.2, 0.1]), 4).tolist() == [1, 2, 3, 0]
    assert hottest(np.ones(1), 10).tolist() == [0]
