"""The ramp of consistency and the bound of the pool's loss."""

import pytest
import torch

from vision_train.semi.consistency import capped, ramp


def test_the_ramp_rises_from_nothing_to_all():
    assert [ramp(step, 100) for step in (0, 10, 20, 40, 99)] == [0, 0.25, 0.5, 1, 1]


@pytest.mark.parametrize(("pool", "expected"), [(0.0, 0.0), (3.9, 3.9), (8.0, 4.0), (1000.0, 4.0)])
def test_the_pool_weighs_at_most_four_times_the_labelled_images(pool, expected):
    assert capped(torch.tensor(pool), torch.tensor(1.0)).item() == pytest.approx(expected)


def test_the_bound_shortens_the_gradient_and_adds_none_of_its_own():
    weight, labelled = torch.tensor(2.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    capped(10 * weight, labelled).backward()
    assert weight.grad.item() == pytest.approx(10 * 4 / 20)
    assert labelled.grad is None


def test_without_a_labelled_loss_the_pool_adds_nothing():
    assert capped(torch.tensor(5.0), torch.tensor(0.0)).item() == 0
