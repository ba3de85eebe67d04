"""Figures of a teacher's health."""

import json
import math

import pytest
import torch
from torch import distributed

from vision_train.semi.health import (
    PoolCounts,
    distance_to_prior,
    estimated_accuracy,
    normalised_entropy,
    separation,
)

PROBABILITIES = torch.tensor([[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.2, 0.8, 0.0], [0.7, 0.2, 0.1]])
WEIGHTS = torch.tensor([1.0, 0.0, 1.0, 1.0])


def test_figures_of_a_pool():
    counts = PoolCounts(3)
    student = torch.tensor([[2.0, 1, 0], [0, 1, 0], [0, 1, 0], [3, 0, 0]])
    counts.add(PROBABILITIES, WEIGHTS, student)
    counts.add_losses(torch.tensor(3.0), torch.tensor(2.0))
    figures = counts.figures()
    assert (figures.images, figures.not_finite) == (4, 0)
    assert figures.accepted == 0.75
    assert figures.label_shares == (0.75, 0.25, 0)
    assert figures.accepted_shares == pytest.approx((2 / 3, 1 / 3, 0))
    assert figures.accepted_of_class[:2] == pytest.approx((2 / 3, 1))
    assert math.isnan(figures.accepted_of_class[2])
    assert figures.never_accepted == [2]
    assert figures.agreement == 0.75
    assert figures.loss_ratio == 1.5
    assert figures.label_entropy == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(3))


def test_what_is_not_finite_is_counted_apart():
    counts = PoolCounts(3)
    broken = PROBABILITIES.clone()
    broken[0, 1] = torch.nan
    counts.add(broken, WEIGHTS)
    figures = counts.figures()
    assert (figures.images, figures.not_finite) == (4, 1)
    assert sum(figures.label_shares) == pytest.approx(1)
    assert figures.accepted == 0.5
    assert math.isnan(figures.agreement), "no student was asked"


def test_counts_start_anew_and_survive_a_checkpoint():
    counts, restored = PoolCounts(3), PoolCounts(3)
    counts.add(PROBABILITIES, WEIGHTS)
    restored.load_state_dict(counts.state_dict())
    assert restored.figures().label_shares == counts.figures().label_shares == (0.75, 0.25, 0)
    counts.reset()
    assert counts.figures().images == 0
    assert math.isnan(counts.figures().accepted)


def half(rank, place):
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    counts = PoolCounts(3)
    part = slice(2 * rank, 2 * rank + 2)
    counts.add(PROBABILITIES[part], WEIGHTS[part], PROBABILITIES[part])
    counts.add_losses(torch.tensor(1.0 + rank), torch.tensor(2.0))
    (place / f"{rank}.json").write_text(json.dumps(vars(counts.figures()), default=str))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_the_whole_pool(two_processes, tmp_path):
    counts = PoolCounts(3)
    counts.add(PROBABILITIES, WEIGHTS, PROBABILITIES)
    counts.add_losses(torch.tensor(1.5), torch.tensor(2.0))
    two_processes(half, tmp_path)
    whole = json.loads(json.dumps(vars(counts.figures())))
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert str(found) == str(whole)


def test_accuracy_of_accepted_labels_has_an_interval():
    weights, right = torch.ones(50), torch.arange(50) < 10
    found = estimated_accuracy(weights, right)
    assert (found.accuracy, found.images) == pytest.approx((0.2, 50))
    assert found.interval == pytest.approx((0.1124, 0.3304), abs=1e-4)
    assert estimated_accuracy(torch.zeros(4), right[:4]) is None


def test_images_of_small_weight_add_little_to_what_the_accuracy_rests_on():
    weights = torch.cat([torch.ones(10), torch.full((90,), 0.001)])
    found = estimated_accuracy(weights, torch.ones(100, dtype=torch.bool))
    assert found.images == pytest.approx(10.09**2 / 10.00009)
    assert found.accuracy == pytest.approx(1)


def test_entropy_and_distance_of_histograms():
    assert normalised_entropy([0.25] * 4) == pytest.approx(1)
    assert normalised_entropy([1, 0, 0]) == 0
    assert math.isnan(normalised_entropy([1]))
    assert distance_to_prior([0.5, 0.5, 0], [0.25, 0.25, 0.5]) == 0.5
    assert distance_to_prior([0, 1], [1, 0]) == 1


def test_separation_is_the_share_of_pairs_in_which_validation_is_surer():
    assert separation(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2, 0.3])) == 1
    assert separation(torch.tensor([0.5, 0.9]), torch.tensor([0.5])) == 0.75
    assert separation(torch.tensor([0.1]), torch.tensor([0.2, 0.3])) == 0
