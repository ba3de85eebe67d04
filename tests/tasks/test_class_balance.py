"""Weights of classes, and metrics in which they count alike."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from torch.nn import functional

from models.mil import losses
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.tasks.class_balance import balanced_accuracy, class_weights, macro_f1

COUNTS = [8, 1, 3]
LABELS = torch.tensor([0] * 8 + [1] + [2] * 3)


def test_none_are_none():
    assert class_weights("none", COUNTS) is None


def test_weighed_classes_weigh_alike_and_a_sample_one_on_average():
    weights = class_weights("balanced", COUNTS)
    assert weights is not None
    assert (weights * torch.tensor(COUNTS)).tolist() == pytest.approx([4.0] * 3)
    assert weights[LABELS].mean().item() == pytest.approx(1)


def test_a_class_without_samples_weighs_nothing():
    assert class_weights("balanced", [2, 0, 2]).tolist() == [1, 0, 1]


def test_a_loss_is_averaged_over_samples_so_that_single_bags_keep_their_weight():
    weights, logits = class_weights("balanced", COUNTS), torch.randn(12, 3)
    whole = losses.bag_loss(logits, LABELS, weights)
    one_by_one = torch.stack([losses.bag_loss(logits[n : n + 1], LABELS[n : n + 1], weights) for n in range(12)])
    torch.testing.assert_close(one_by_one.mean(), whole)
    torch.testing.assert_close(whole, functional.cross_entropy(logits, functional.one_hot(LABELS, 3).float(), weights))
    branches = logits[:, None].expand(-1, 4, -1)
    torch.testing.assert_close(losses.branch_loss(branches, LABELS, weights), whole)


def test_metrics_are_sklearns():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randint(0, 3, LABELS.shape, generator=generator)
    assert balanced_accuracy(predicted, LABELS) == pytest.approx(balanced_accuracy_score(LABELS, predicted))
    assert macro_f1(predicted, LABELS) == pytest.approx(f1_score(LABELS, predicted, average="macro"))


def test_the_commonest_class_alone_is_no_more_than_guessing():
    assert balanced_accuracy(torch.zeros_like(LABELS), LABELS) == pytest.approx(1 / 3)


@pytest.mark.parametrize("recipe", ["quickstart", "acmil/digit_bags"])
def test_balanced_draws_and_weights_exclude_one_another(recipe):
    with pytest.raises(UserError, match=r"method\.class_weights: .*data\.balance"):
        load_recipe(recipe, ["method.class_weights=balanced", "data.balance=classes"])
