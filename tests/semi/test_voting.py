"""Votes of several networks over one pool.

Items are those of the specification of learning from unlabelled images.
"""

import itertools

import pytest
import torch

from vision_train.semi.pseudo_labels import PseudoLabels, pseudo_label_loss
from vision_train.semi.voting import most_agreed, vote


def voters(*rows):
    """One image, a row of probabilities for each voter."""
    return torch.tensor(rows)[:, None]


def test_the_target_is_the_share_of_votes():
    votes = vote(voters([0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.7, 0.1, 0.2]))
    assert votes.shares.tolist() == [[0.75, 0.25, 0]]
    assert votes.labels.tolist() == [0]
    assert votes.agreement.tolist() == [0.75]


def test_item_11_equal_votes_go_to_the_higher_mean_probability():
    votes = vote(voters([0.55, 0.45, 0.0], [0.1, 0.9, 0.0]))
    assert votes.shares.tolist() == [[0.5, 0.5, 0]]
    assert votes.labels.tolist() == [1]


def test_item_11_equal_votes_and_probabilities_go_to_the_first_class():
    assert vote(voters([0.0, 0.25, 0.75], [0.0, 0.75, 0.25])).labels.tolist() == [1]
    assert vote(voters([0.5, 0.5])).shares.tolist() == [[1, 0]], "one voter that is undecided"


def test_a_class_without_most_votes_wins_nothing_by_its_probability():
    votes = vote(voters([0.0, 0.49, 0.51], [0.51, 0.49, 0.0], [0.52, 0.48, 0.0]))
    assert votes.probabilities.argmax().item() == 1
    assert votes.labels.tolist() == [0]


def test_item_11_the_order_of_voters_is_irrelevant():
    probabilities = torch.rand(4, 30, 3, dtype=torch.float64).softmax(dim=-1)
    probabilities[2:, :, [0, 1]] = probabilities[:2, :, [1, 0]]  # many votes and means are equal
    expected = vote(probabilities)
    for order in itertools.permutations(range(4)):
        found = vote(probabilities[list(order)])
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_at_most_so_many_of_a_class_by_agreement_then_probability_then_place():
    first = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.7, 0.3], [0.2, 0.8]])
    second = first.clone()
    second[1] = torch.tensor([0.4, 0.6])  # more probable on average than image 0, but the voters differ
    votes = vote(torch.stack([first, second]))
    assert votes.labels.tolist() == [0, 0, 0, 0, 1]
    for most, kept in ((1, [2, 4]), (2, [2, 3, 4]), (3, [0, 2, 3, 4]), (9, [0, 1, 2, 3, 4])):
        assert most_agreed(votes, most).nonzero().flatten().tolist() == kept


def test_an_image_that_nobody_labelled_is_no_vote():
    with pytest.raises(ValueError, match="finite"):
        vote(voters([0.5, torch.nan]))
    with pytest.raises(ValueError, match="at least one voter"):
        vote(torch.empty(0, 3, 2))


def test_a_student_learns_the_shares():
    """Cross-entropy is least where its softmax equals the shares of the votes."""
    votes = vote(torch.tensor([[[0.9, 0.1]], [[0.8, 0.2]], [[0.3, 0.7]]]))
    logits = votes.shares.log().requires_grad_()
    pseudo_label_loss(logits, PseudoLabels(votes.shares, torch.ones(1))).backward()
    assert logits.grad.abs().max() < 1e-6
