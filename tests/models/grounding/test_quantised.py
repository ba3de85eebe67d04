"""Bins of coordinates: what they stand for, what they should say, and how sure they are.

Items are those of the specification of grounding.
"""

import math

import pytest
import torch
from torch.testing import assert_close

from models.grounding.quantised import (
    READOUTS,
    QuantisedHead,
    bin_losses,
    bin_middles,
    bin_targets,
    expected_box,
    likeliest_box,
    quantise,
    window_max,
)

MONOTONE = ("geomean_max", "mean_max", "prod_max")


@pytest.fixture
def values():
    """Coordinates of 500 boxes in [0, 1], its ends and the edges of bins among them."""
    drawn = torch.rand(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn[0] = torch.tensor([0.0, 1.0, 0.5, 0.25])
    return drawn


def one_hot_logits(bins, count):
    """Scores of which each softmax is exactly one-hot."""
    return torch.full((bins, bins), -math.inf).fill_diagonal_(0)[torch.arange(4 * count) % bins].view(count, 4, bins)


class TestDecoding:
    @pytest.mark.parametrize("bins", [2, 24, 64, 320, 1000])
    def test_item_4_what_a_bin_stands_for_is_at_most_half_a_bin_away(self, values, bins):
        decoded = likeliest_box(bin_targets(values, bins))
        assert (decoded - values).abs().max() <= 1 / (2 * bins) + 1e-12

    def test_item_4_a_coordinate_of_1_is_in_the_last_bin(self):
        assert quantise(torch.tensor([0.0, 1.0, 1 - 1e-9, 0.5]), 64).tolist() == [0, 63, 63, 32]

    @pytest.mark.parametrize("bins", [2, 24, 320])
    def test_item_4_two_hot_targets_are_inverted_by_their_expectation(self, values, bins):
        within = values.clamp(1 / (2 * bins), 1 - 1 / (2 * bins))
        assert_close(expected_box(bin_targets(within, bins, "two_hot")), within, atol=1e-6, rtol=0)
        outside = torch.tensor([[0.0, 1.0, 0.1 / bins, 1 - 0.1 / bins]], dtype=torch.float64)
        first, last = bin_middles(bins, outside)[[0, -1]]
        assert_close(expected_box(bin_targets(outside, bins, "two_hot")), torch.stack([first, last, first, last])[None])


class TestTargets:
    @pytest.mark.parametrize("kind", ["hard", "two_hot", "gaussian"])
    def test_they_are_probabilities_whose_peak_is_the_bin_of_the_coordinate(self, values, kind):
        targets = bin_targets(values, 24, kind)
        assert_close(targets.sum(-1), torch.ones(500, 4).double())
        assert (targets >= 0).all()
        apart = ((values * 24) % 1 - 0.5).abs() < 0.49  # at an edge, two bins are as near
        assert (targets.argmax(-1) == quantise(values, 24))[apart].all()

    def test_two_bins_share_linearly(self):
        targets = bin_targets(torch.tensor([[0.3, 0.375, 0.25, 0.0]]), 4, "two_hot")  # middles at 1/8, 3/8, 5/8, 7/8
        assert_close(targets[0, 0], torch.tensor([0.3, 0.7, 0, 0]))
        assert_close(targets[0, 1:3], torch.tensor([[0, 1.0, 0, 0], [0.5, 0.5, 0, 0]]))

    def test_gaussian_ones_have_their_deviation_in_bins(self):
        targets = bin_targets(torch.tensor([[0.5 + 1 / 128] * 4]), 64, "gaussian", deviation=2.0)
        distance = torch.arange(64) - 32
        assert_close((targets[0, 0] * distance**2).sum().sqrt(), torch.tensor(2.0), rtol=1e-3, atol=0)
        assert_close(targets[0, 0, 34] / targets[0, 0, 32], torch.tensor(math.exp(-0.5)))

    def test_another_kind_is_refused_with_those_that_there_are(self):
        with pytest.raises(ValueError, match="hard, two_hot, gaussian"):
            bin_targets(torch.zeros(1, 4), 8, "soft")


class TestLoss:
    def test_it_is_the_mean_cross_entropy_of_the_coordinates(self, values):
        logits = torch.randn(500, 4, 24, generator=torch.Generator().manual_seed(1)).double()
        found = bin_losses(logits, bin_targets(values, 24))
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), quantise(values, 24).flatten())
        assert_close(found.mean(), expected)

    def test_the_head_learns_a_box(self):
        torch.manual_seed(0)
        head, token, box = QuantisedHead(8, 16), torch.randn(1, 8), torch.tensor([[0.2, 0.6, 0.35, 0.9]])
        optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            bin_losses(head(token), bin_targets(box, 16)).sum().backward()
            optimizer.step()
        assert (likeliest_box(head(token)) - box).abs().max() <= 1 / 32 + 1e-6


class TestReadouts:
    @pytest.mark.parametrize("name", MONOTONE)
    def test_item_5_larger_logits_never_lower_the_largest_probabilities(self, name):
        logits = torch.randn(300, 4, 24, generator=torch.Generator().manual_seed(0)).double()
        factors = torch.linspace(0.01, 20, 60).tolist()
        found = torch.stack([READOUTS[name]((factor * logits).softmax(-1)) for factor in factors])
        assert (found.diff(dim=0) >= -1e-12).all()
        assert (found[-1] > found[0]).all()

    def test_item_5_does_not_hold_of_a_window_whose_rival_is_elsewhere(self):
        logits = torch.tensor([0.40, 0.25, 1e-6, 0.35, 1e-6]).double().log().expand(1, 4, -1)
        assert window_max((1.5 * logits).softmax(-1)) < window_max(logits.softmax(-1))

    @pytest.mark.parametrize("bins", [2, 24, 49, 64, 320])
    def test_item_5_uniform_logits_give_exactly_one_in_k(self, bins):
        probabilities = torch.zeros(3, 4, bins, dtype=torch.float64).softmax(-1)
        assert (READOUTS["geomean_max"](probabilities) == 1 / bins).all()

    @pytest.mark.parametrize("name", READOUTS)
    def test_item_5_one_hot_probabilities_give_1(self, name):
        assert (READOUTS[name](one_hot_logits(24, 6).softmax(-1)) == 1).all()

    @pytest.mark.parametrize("name", READOUTS)
    def test_all_lie_in_0_to_1_and_rank_a_sharper_answer_higher(self, name):
        logits = torch.randn(100, 4, 24, generator=torch.Generator().manual_seed(0))
        found = READOUTS[name](logits.softmax(-1))
        assert ((found > 0) & (found < 1)).all()
        sharper = logits + 6 * torch.nn.functional.one_hot(logits.argmax(-1), 24)
        assert (READOUTS[name](sharper.softmax(-1)) > found).all()

    def test_a_window_counts_the_bins_beside_the_likeliest_one(self):
        probabilities = torch.tensor([0.1, 0.4, 0.2, 0.1, 0.2]).expand(2, 4, -1)
        assert_close(window_max(probabilities), torch.full((2,), 0.7))
        at_the_end = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1]).expand(2, 4, -1)
        assert_close(window_max(at_the_end), torch.full((2,), 0.7))

    def test_unlike_coordinates_are_averaged_as_the_names_say(self):
        largest = torch.tensor([0.9, 0.5, 0.4, 0.8])
        probabilities = torch.stack((largest, 1 - largest), dim=-1)
        largest = probabilities.amax(-1)  # 0.4 is the smaller of two
        assert_close(READOUTS["prod_max"](probabilities), largest.prod())
        assert_close(READOUTS["geomean_max"](probabilities), largest.prod() ** 0.25)
        assert_close(READOUTS["mean_max"](probabilities), largest.mean())
