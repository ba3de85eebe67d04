"""What a classifier says of a pool, and what is voted.

Items are those of the specification of learning from unlabelled images.
"""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from vision_train.semi.answers import Answer
from vision_train.tasks.classification.asked import answer, judged, labels_of
from vision_train.tasks.classification.task import ClassificationTask

CLASSES = ["ape", "bee", "cow"]


class Bright(nn.Module):
    """Three logits: the means of the channels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def voter(*rows: list[float]) -> list[Answer]:
    return [
        Answer(str(place), np.asarray(row, dtype=np.float32), {"confidence": max(row)})
        for place, row in enumerate(rows)
    ]


def test_the_mean_over_views_is_said_and_scored():
    views = [torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(n)) * 20 for n in range(3)]
    found = answer(Bright(), list("abcd"), views, ["confidence", "robustness"], (1, 1))
    mean = torch.stack([view.mean(dim=(2, 3)).softmax(-1) for view in views]).double().mean(dim=0)
    for place, each in enumerate(found):
        assert each.said == pytest.approx(mean[place].numpy(), abs=1e-6)
        assert each.scores["confidence"] == pytest.approx(mean[place].max().item())
        assert 0 <= each.scores["robustness"] <= 1


def test_one_image_that_is_not_finite_spoils_no_other():
    views = [torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)]
    views[1][0] = torch.nan
    found = answer(Bright(), ["a", "b"], views, ["confidence", "robustness"], (1, 1))
    assert all(np.isnan(list(found[0].scores.values())))
    assert found[1].scores["robustness"] == 1
    labels = labels_of([found], CLASSES, None)
    assert [(each.label, each.kept, each.stratum) for each in labels] == [("", False, ""), ("ape", True, "ape")]
    assert "1 of its 2" in judged(labels, CLASSES, [])[1][0]


def test_item_11_ties_are_broken_by_mean_probability_then_by_class_whatever_the_order_of_voters():
    first = voter([0.6, 0.4, 0], [0.5, 0.5, 0], [0.2, 0.2, 0.6])
    second = voter([0.1, 0.9, 0], [0.5, 0.5, 0], [0.1, 0.1, 0.8])
    labels = labels_of([first, second], CLASSES, None)
    assert [(each.label, each.share) for each in labels] == [("bee", 0.5), ("ape", 1.0), ("cow", 1.0)]
    assert labels[0].votes == {"ape": 1, "bee": 1}
    assert labels_of([second, first], CLASSES, None) == labels, "the order of voters is irrelevant"


def test_item_11_a_class_without_votes_is_reported():
    labels = labels_of([voter([0.9, 0.1, 0], [0.8, 0.2, 0])], CLASSES, None)
    assert "bee, cow" in judged(labels, CLASSES, [])[1][0]
    assert "burn_in" in judged(labels, CLASSES, [])[1][0]


def test_the_class_cap_takes_what_is_there():
    rows = [[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0.1, 0.9, 0]]
    assert [each.kept for each in labels_of([voter(*rows)], CLASSES, 2)] == [True, True, False, True]


@pytest.mark.parametrize(
    ("cap", "kept"), [(None, [True] * 4), (4, [True, True, False, True]), (1, [True, False, False, True])]
)
def test_labels_whose_truth_is_known_are_kept_as_in_a_pool_of_another_size(cap, kept):
    """Four images beside a pool of eight: half as many labels of each class are kept, but one."""
    rows = [[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0.1, 0.9, 0]]
    recipe = SimpleNamespace(semi=SimpleNamespace(class_cap=cap))
    task = cast(ClassificationTask, SimpleNamespace(recipe=recipe, classes=CLASSES))
    labels, right = ClassificationTask.label_known(task, [voter(*rows)], ["ape", "bee", "ape", "cow"], 8)
    assert right == [True, False, True, False]
    assert [each.kept for each in labels] == kept


def test_all_may_be_useless():
    labels = labels_of([voter([float("nan")] * 3)], CLASSES, 1)
    assert not labels[0].kept


def test_labels_that_have_collapsed_are_not_learnt_from():
    rows = [[0.9, 0.1, 0]] * 20 + [[0.1, 0.9, 0]]
    labels, warnings = judged(labels_of([voter(*rows)], CLASSES, None), CLASSES, [5, 5, 5])
    assert not any(each.kept or each.stratum for each in labels)
    assert any("labelled images alone" in warning for warning in warnings)
    assert any("semi.burn_in" in warning for warning in warnings)
    labels, warnings = judged(labels_of([voter(*rows)], CLASSES, None), CLASSES, [60, 3, 0])
    assert all(each.kept for each in labels), "as uneven as the labelled images are"
