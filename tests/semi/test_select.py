"""Selection of pseudo labels: what must hold for every pool, and how strata share a budget.

Items are those of the specification of grounding.
"""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vision_train.semi.combine import passing
from vision_train.semi.select import select

CLASSES = ("ant", "bee", "cat")


def pool(count: int, seed: int) -> tuple[list[str], torch.Tensor, list[str]]:
    """Ids whose order follows their class, scores with ties and a few NaN, classes of which the first is rare."""
    generator = torch.Generator().manual_seed(seed)
    strata = sorted(CLASSES[int(each)] for each in (3 * torch.rand(count, generator=generator) ** 0.5).clamp(max=2))
    scores = (10 * torch.rand(count, generator=generator)).round() / 10
    scores[torch.rand(count, generator=generator) < 0.1] = math.nan
    return [f"{stratum}/{at:03d}.png" for at, stratum in enumerate(strata)], scores, strata


selections = st.fixed_dictionaries(
    {
        "count": st.integers(0, 60),
        "budget": st.integers(0, 70),
        "seed": st.integers(0, 5),
        "stratified": st.booleans(),
    }
)


@given(selections)
def test_item_8_no_selected_id_is_labelled_or_chosen_twice_and_budget_and_floors_hold(case):
    ids, scores, strata = pool(case["count"], case["seed"])
    labelled, eligible = set(ids[::7]), passing({"robustness": scores}, {"robustness": 0.3})
    chosen = select(
        ids,
        scores,
        case["budget"],
        seed=case["seed"],
        eligible=eligible,
        excluded=labelled,
        strata=strata if case["stratified"] else None,
    )
    free = [each for each, score in zip(ids, scores.tolist(), strict=True) if each not in labelled and score >= 0.3]
    assert len(chosen) == len(set(chosen)) == min(case["budget"], len(free)) <= case["budget"]
    assert set(chosen) <= set(free)


@given(selections)
def test_item_8_neither_order_nor_repetition_changes_the_selection(case):
    ids, scores, strata = pool(case["count"], case["seed"])
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(9)).tolist()

    def chosen(places):
        return select(
            [ids[at] for at in places],
            scores[places],
            case["budget"],
            seed=case["seed"],
            strata=[strata[at] for at in places] if case["stratified"] else None,
        )

    assert chosen(order) == chosen(list(range(len(ids)))) == chosen(list(range(len(ids))))


@given(selections)
def test_a_smaller_budget_takes_the_first_of_a_larger_one(case):
    ids, scores, strata = pool(case["count"], case["seed"])
    options = {"seed": case["seed"], "strata": strata if case["stratified"] else None}
    everything = select(ids, scores, len(ids), **options)
    assert select(ids, scores, case["budget"], **options) == everything[: case["budget"]]


def test_item_8_scores_that_are_not_finite_are_never_selected():
    scores = torch.tensor([math.nan, 0.1, math.inf, -math.inf])
    assert select(list("abcd"), scores, 4, seed=0) == ["b"]


def test_the_highest_scores_are_taken():
    assert select(list("abcde"), torch.tensor([0.2, 0.9, 0.1, 0.5, 0.4]), 3, seed=0) == ["b", "d", "e"]


def test_item_8_no_id_is_chosen_in_two_rounds_where_earlier_ones_stay():
    ids, scores, strata = pool(50, 1)
    rounds: list[list[str]] = []
    for seed in range(4):
        earlier = [each for chosen in rounds for each in chosen]
        rounds.append(select(ids, scores, 12, seed=seed, excluded=earlier, strata=strata))
    counts = Counter(each for chosen in rounds for each in chosen)
    assert len(counts) == sum(counts.values()) == scores.isfinite().sum().item()


def test_strata_share_a_budget_equally_whatever_their_scores():
    ids = [f"{name}{at}" for name in "xyz" for at in range(20)]
    scores = torch.cat([0.9 + torch.rand(20) / 10, 0.5 + torch.rand(20) / 10, torch.rand(20) / 10])
    strata = [each[0] for each in ids]
    chosen = select(ids, scores, 15, seed=0, strata=strata)
    assert Counter(each[0] for each in chosen) == {"x": 5, "y": 5, "z": 5}
    assert "".join(each[0] for each in chosen) == "xyz" * 5
    of_x = [each for each in chosen if each[0] == "x"]
    assert of_x == select(ids[:20], scores[:20], 5, seed=0)
    assert Counter(each[0] for each in select(ids, scores, 15, seed=0)) == {"x": 15}


def test_a_stratum_that_is_used_up_leaves_its_share_to_the_others():
    ids, strata = ["a0", "b0", "b1", "b2", "c0", "c1", "c2"], list("abbbccc")
    chosen = select(ids, torch.linspace(0.1, 0.7, 7), 5, seed=0, strata=strata)
    assert Counter(each[0] for each in chosen) == {"a": 1, "b": 2, "c": 2}


def test_names_that_sort_by_class_favour_no_class_among_equal_scores():
    ids = [f"{name}/{at:03d}" for name in CLASSES for at in range(200)]
    first = select(ids, torch.ones(600), 150, seed=0)
    counts = Counter(each.partition("/")[0] for each in first)
    assert all(30 <= counts[name] <= 70 for name in CLASSES)
    assert first == select(ids, torch.ones(600), 150, seed=0)
    assert set(first) != set(select(ids, torch.ones(600), 150, seed=1))


def test_what_else_is_in_the_pool_does_not_change_the_order_of_equal_scores():
    ids, scores = [str(at) for at in range(40)], torch.ones(40)
    chosen = select(ids, scores, 40, seed=2)
    fewer = select(ids[10:30], scores[10:30], 40, seed=2)
    assert fewer == [each for each in chosen if each in set(ids[10:30])]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ids": ["a", "a", "b"]}, "`a` occurs twice"),
        ({"scores": torch.rand(2)}, r"\[2, 3\]"),
        ({"strata": [0, 1]}, r"\[2, 3\]"),
        ({"eligible": torch.tensor([True])}, r"\[1, 3\]"),
        ({"budget": -1}, "-1"),
    ],
)
def test_what_cannot_be_selected_from_is_refused(wrong, message):
    options = {"ids": list("abc"), "scores": torch.rand(3), "budget": 2, "seed": 0, **wrong}
    with pytest.raises(ValueError, match=message):
        select(**options)


def test_an_empty_pool_gives_nothing():
    assert select([], torch.empty(0), 5, seed=0, strata=[]) == []
