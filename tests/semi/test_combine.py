"""Combination of scores: values worked out by hand, and weights by what scores know."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from vision_train.semi.combine import (
    BOX_WEIGHTS,
    CLASS_WEIGHTS,
    FLOORS,
    PAPER_LIKE,
    SMALLEST_BOX,
    calibrated_weights,
    combine,
    passing,
    ranked,
    weights_of,
)


def test_ranks_lie_in_0_to_1_and_equal_scores_share_the_mean_rank():
    assert ranked(torch.tensor([0.3, 0.1, 0.3, 0.9])).tolist() == [2.5 / 4, 1 / 4, 2.5 / 4, 1]


def test_scores_that_are_not_finite_have_no_rank_and_do_not_count():
    ranks = ranked(torch.tensor([0.3, math.nan, 0.1, math.inf]))
    assert ranks[[0, 2]].tolist() == [1, 0.5]
    assert ranks[[1, 3]].isnan().all()
    assert ranked(torch.full((3,), math.nan)).isnan().all()


SCORES = {
    "faithfulness": torch.tensor([0.1, 0.2, 0.3, 0.4]),
    "robustness": torch.tensor([0.9, 0.99, 0.8, 0.7]),
    "confidence": torch.tensor([0.2, 0.1, 0.3, 0.4]),
}
RANKS = {"faithfulness": [1, 2, 3, 4], "robustness": [3, 4, 2, 1], "confidence": [2, 1, 3, 4]}


@pytest.mark.parametrize("weights", [BOX_WEIGHTS, PAPER_LIKE, {"faithfulness": 1.0, "robustness": 0.5}])
def test_combination_is_the_weighed_mean_of_ranks(weights):
    total = sum(weights.values())
    products = [
        math.prod((RANKS[name][at] / 4) ** (weight / total) for name, weight in weights.items()) for at in range(4)
    ]
    assert combine(SCORES, weights).tolist() == pytest.approx(products)


def test_equal_means_of_ranks_are_equal_to_the_bit_wherever_they_stand():
    levels = torch.arange(30)
    scores = {"faithfulness": levels.repeat(30), "robustness": levels.repeat_interleave(30)}  # every pair of levels
    combined = combine(scores, BOX_WEIGHTS)
    first, second = (2 * (30 * score + 15) + 1 for score in scores.values())  # twice the mean rank of a level
    assert len(combined.unique()) == len((first * second).unique())
    order = torch.randperm(900)
    shuffled = combine({name: score[order] for name, score in scores.items()}, BOX_WEIGHTS)
    assert torch.equal(shuffled, combined[order])


def test_defaults_are_those_of_the_prototypes_and_all_three_scores_are_paper_like():
    assert BOX_WEIGHTS == {"robustness": 1, "faithfulness": 1}
    assert CLASS_WEIGHTS == {"confidence": 1}
    assert PAPER_LIKE == {"robustness": 1, "faithfulness": 1, "confidence": 1}
    assert FLOORS == {"robustness": 0.5}


def test_scale_and_spread_of_a_score_do_not_matter():
    stretched = {**SCORES, "robustness": (20 * SCORES["robustness"]).exp()}
    assert torch.equal(combine(SCORES, PAPER_LIKE), combine(stretched, PAPER_LIKE))


def test_a_score_without_weight_neither_counts_nor_needs_to_be_finite():
    broken = {**SCORES, "confidence": torch.tensor([math.nan] * 4)}
    assert torch.equal(combine(broken, {**PAPER_LIKE, "confidence": 0.0}), combine(SCORES, BOX_WEIGHTS))
    assert combine(broken, PAPER_LIKE).isnan().all()


@pytest.mark.parametrize("weights", [{}, {"robustness": 0.0}, {"robustness": 1.0, "confidence": -1.0}])
def test_weights_that_rank_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        combine(SCORES, weights)


def test_a_weight_or_floor_without_a_score_is_named():
    with pytest.raises(ValueError, match=r"agreement.*confidence, faithfulness, robustness"):
        combine(SCORES, {"agreement": 1.0})
    with pytest.raises(ValueError, match="area"):
        passing(SCORES, {"area": SMALLEST_BOX})


def test_scores_of_other_samples_are_refused():
    with pytest.raises(ValueError, match=r"robustness.: 3"):
        combine({**SCORES, "robustness": torch.rand(3)}, BOX_WEIGHTS)


def test_floors_hold_on_raw_values_and_no_score_may_be_missing():
    scores = {
        "robustness": torch.tensor([0.5, 0.49999, 0.9, 0.9, math.nan, 0.9]),
        "faithfulness": torch.tensor([0.0, 1.0, 0.3, math.inf, 0.3, 0.3]),
        "area": torch.tensor([0.1, 0.1, 0.00009, 0.1, 0.1, 0.0001], dtype=torch.float64),
    }
    passed = passing(scores, {**FLOORS, "area": SMALLEST_BOX})
    assert passed.tolist() == [True, False, False, False, False, True]


def test_calibrated_weights_are_0_at_chance_and_1_where_a_score_knows():
    right = torch.tensor([True, True, False, False])
    knows = {
        "sure": torch.tensor([0.9, 0.8, 0.2, 0.1]),
        "blind": torch.tensor([0.5, 0.5, 0.5, 0.5]),
        "wrong": torch.tensor([0.1, 0.2, 0.8, 0.9]),
    }
    assert calibrated_weights(knows, right) == {"sure": 1, "blind": 0, "wrong": 0}


def test_calibrated_weights_follow_the_area_under_the_roc_curve():
    right = torch.rand(300) < 0.6
    score = (torch.rand(300) + 0.5 * right).round(decimals=1)
    score[7] = math.nan
    kept = torch.arange(300) != 7
    area = roc_auc_score(right[kept].numpy(), score[kept].numpy())
    assert calibrated_weights({"score": score}, right)["score"] == pytest.approx(2 * area - 1)


@pytest.mark.parametrize(("right", "which"), [(True, "right"), (False, "wrong")])
def test_calibration_without_both_outcomes_is_refused(right, which):
    with pytest.raises(ValueError, match=f"robustness.*{which}"):
        calibrated_weights({"robustness": torch.rand(4)}, torch.full((4,), right))


def test_a_recipe_asks_for_the_default_the_published_scores_or_names_some():
    assert weights_of("default", BOX_WEIGHTS) == BOX_WEIGHTS
    assert weights_of("paper_like", BOX_WEIGHTS) == PAPER_LIKE
    assert weights_of(["confidence", "robustness"], BOX_WEIGHTS) == {"confidence": 1, "robustness": 1}
