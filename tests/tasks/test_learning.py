"""Whether a classifier has learnt anything, told from its losses and from its result."""

import math

import pytest
import torch
from torch.nn import functional

from vision_train.tasks.chance import chance_warnings
from vision_train.tasks.learning import Learnt, guessing, lucky_auroc


def said(correct: list[int], each: int, epoch: Learnt) -> list[str]:
    """What is said of images of classes of equal size, of which so many are right."""
    rows = [(k if n < right else (k + 1) % len(correct), k) for k, right in enumerate(correct) for n in range(each)]
    return chance_warnings(*torch.tensor(rows).T, "test", epoch, "images")


def learnt(loss: float) -> Learnt:
    epoch = Learnt(2)
    epoch.add(torch.tensor(loss), torch.tensor([0, 1]))
    return epoch


def test_soft_targets_have_a_lowest_loss_above_zero():
    targets = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    epoch = Learnt(2)
    epoch.add(torch.tensor(1.0), targets)
    mean = targets.mean(dim=0)
    assert epoch.loss_of_guessing == pytest.approx(functional.cross_entropy(mean.log()[None], mean[None]).item())
    assert epoch.lowest == pytest.approx(functional.cross_entropy(targets.log(), targets).item())


def test_weighed_targets_are_compared_with_weighed_guesses():
    weights, labels = torch.tensor([0.5, 3.0]), torch.tensor([0, 0, 0, 0, 0, 1])
    rows = functional.one_hot(labels, 2) * weights
    epoch = Learnt(2)
    epoch.add(torch.tensor(1.0), rows)
    share = rows.sum(dim=0) / rows.sum()
    expected = functional.cross_entropy(share.log().expand(6, 2), functional.one_hot(labels, 2).float(), weights)
    assert epoch.loss_of_guessing == pytest.approx(expected.item())
    assert epoch.lowest == 0


def test_guessing_is_exceeded_by_luck_in_small_sets_alone():
    assert guessing(torch.tensor([0, 1] * 5000)) == pytest.approx((0.5, 0.508), abs=1e-3)
    assert guessing(torch.arange(3).repeat(2))[1] > 0.6
    assert all(math.isnan(value) for value in guessing(torch.zeros(4, dtype=torch.long)))


@pytest.mark.parametrize(("correct", "told"), [([20, 20], True), ([40, 0], True), ([30, 30], False), ([40, 12], False)])
def test_a_result_at_chance_is_told(correct, told):
    assert bool(said(correct, 40, learnt(0.69))) == told


def test_what_helps_depends_on_whether_training_learnt():
    (text,) = said([20, 20], 40, learnt(0.69))
    assert "balanced accuracy on test is 50.0 %" in text
    assert "Little was learnt" in text
    assert all(key in text for key in ("optim.lr", "trainer.max_epochs", "model.checkpoint"))
    (text,) = said([20, 20], 40, learnt(0.1))
    assert "does not carry over" in text
    assert "labels" in text
    assert "Little was learnt" in said([20, 20], 40, learnt(math.nan))[0]


@pytest.mark.parametrize("correct", [[1, 1], [0, 0]])
def test_a_split_too_small_for_any_result_is_told_and_no_cause_is_made_up(correct):
    (text,) = said(correct, 1, learnt(0.1))
    assert "more images" in text
    assert "split test" in text
    assert "carry over" not in text


def test_both_causes_are_named_where_no_loss_was_noted():
    """A run that was killed before its test is resumed without training."""
    (text,) = said([20, 20], 40, Learnt(2))
    assert "nan" not in text
    assert all(key in text for key in ("little was learnt", "optim.lr", "does not carry over", "labels"))


def test_a_single_class_says_nothing():
    assert said([10], 10, learnt(0.7)) == []


def test_ranks_at_random_exceed_a_lucky_auroc_in_one_of_twenty_draws():
    labels = torch.tensor([0] * 30 + [1] * 10)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4000, 40, generator=generator)
    pairs = scores[:, 30:, None] > scores[:, None, :30]
    above = (pairs.double().mean(dim=(1, 2)) > lucky_auroc(labels)).double().mean().item()
    assert above == pytest.approx(0.05, abs=0.01)
    assert math.isnan(lucky_auroc(torch.zeros(5, dtype=torch.int64)))
