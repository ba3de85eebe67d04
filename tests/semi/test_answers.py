"""Answers about a pool become the labels of a round: ids once, budgets, floors, order and NaN.

Items are those of the specification of grounding.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vision_train.semi.answers import SCORE, Answer, each_once, select_for_round
from vision_train.semi.label_file import PseudoLabel
from vision_train.semi.rounds import budget


def labels(count: int, seed: int = 0) -> list[PseudoLabel]:
    random = np.random.default_rng(seed)
    return [
        PseudoLabel(
            f"{place:03}",
            (name := "abc"[random.integers(3)]),
            stratum=name,
            scores={"confidence": float(random.random()), "robustness": float(random.random())},
        )
        for place in range(count)
    ]


def chosen(found: list[PseudoLabel]) -> list[str]:
    return [each.id for each in found if each.kept]


def select(given: list[PseudoLabel], number: int = 2, weights: Mapping[str, float] | None = None):
    most = budget(number, 4, len(given), 0.8)
    return select_for_round(given, weights or {"confidence": 1.0}, number=number, budget=most, seed=3)


def test_item_11_samples_that_fill_up_a_last_batch_count_once():
    answers = [Answer("b", 1), Answer("a", 2), Answer("b", 3)]
    found = each_once(answers, ["b", "unreadable", "a"])
    assert [(each.id, each.said) for each in found] == [("b", 1), ("a", 2)]


@given(st.integers(1, 60), st.integers(1, 4), st.integers(0, 5))
def test_item_8_budgets_hold_and_nothing_is_lost(count, number, seed):
    found = select(labels(count, seed), number)
    assert [each.id for each in found] == [f"{place:03}" for place in range(count)]
    assert len(chosen(found)) == count * 8 * number // 40
    assert {each.round for each in found} == {number}


def test_item_8_the_order_of_the_pool_does_not_matter():
    given = labels(50)
    shuffled = [given[place] for place in np.random.default_rng(1).permutation(50)]
    assert sorted(chosen(select(shuffled))) == chosen(select(given))


def test_classes_take_turns():
    given = [replace(each, label="a", stratum="a") for each in labels(30)]
    given += [PseudoLabel("rare", "z", stratum="z", scores={"confidence": 0.0, "robustness": 0.0})]
    assert "rare" in chosen(select(given, 1))


def test_item_8_floors_hold_and_too_few_are_taken_rather_than_worse_ones():
    weights = {"confidence": 1.0, "robustness": 1.0}
    given = labels(40)
    found = select(given, 4, weights=weights)
    good = {each.id for each in given if each.scores["robustness"] >= 0.5}
    assert set(chosen(found)) <= good
    assert len(chosen(found)) == min(32, len(good))


def test_item_8_nan_is_never_selected():
    given = [replace(each, scores={**each.scores, "confidence": math.nan}) for each in labels(20)[:15]]
    given += labels(20)[15:]
    found = select(given, 4)
    assert chosen(found) == [each.id for each in given[15:]]
    assert all(math.isnan(each.scores[SCORE]) for each in found[:15])


def test_all_answers_may_be_useless():
    given = [replace(each, scores={"confidence": math.nan}, stratum="") for each in labels(6)]
    assert chosen(select(given, 4)) == []


def test_of_equal_scores_none_is_taken_for_the_folder_that_it_lies_in():
    equal = [replace(each, label="a", stratum="a", scores={"confidence": 1.0}) for each in labels(20)]
    elsewhere = [replace(each, id=f"class_{number % 3}/{each.id}") for number, each in enumerate(equal)]
    assert chosen(select(equal, 1)) == [name.rpartition("/")[2] for name in chosen(select(elsewhere, 1))]


def test_a_later_round_takes_more_of_the_same_scores():
    given = labels(50)
    assert set(chosen(select(given, 1))) < set(chosen(select(given, 2)))
