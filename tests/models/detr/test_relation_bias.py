"""The relation that is drawn is the one that the network uses."""

import numpy as np
import pytest
import torch
from torch import nn

from models.detr.relation import PositionRelation
from models.detr.relation_bias import SIZE_RATIOS, mean_bias


@pytest.fixture
def relation():
    torch.manual_seed(0)
    relation = PositionRelation(3)
    nn.init.normal_(relation.pos_proj[0].weight, std=0.3)
    return relation


def test_values_are_means_of_the_relation_around_a_box(relation):
    distances, heads = mean_bias(relation)
    assert heads.shape == (3, len(SIZE_RATIOS), len(distances))
    assert distances == sorted(distances)
    assert 0 < distances[0] < 0.1
    assert 3.5 < distances[-1] < 4.5
    # The same by hand, for one ratio and a step: the bounds of the step, and many directions.
    step, ratio, wave = 7, 3, 2 * np.pi / relation.scale
    within = np.expm1((step + (np.arange(10) + 0.5) / 10) * wave)
    angles = np.arange(16) * np.pi / 8
    side = 0.08  # of any box: only the ratio to it matters
    rows = torch.tensor([[[0.5, 0.5, side, side]]])
    columns = [
        (0.5 + side * d * np.cos(a), 0.5 + side * d * np.sin(a), *[side * SIZE_RATIOS[ratio]] * 2)
        for d in within
        for a in angles
    ]
    expected = relation(rows, torch.tensor([columns], dtype=torch.float32)).mean(-1).flatten()
    np.testing.assert_allclose(heads[:, ratio, step], expected.detach(), atol=0.02)


def test_a_head_without_weights_is_silent(relation):
    with torch.no_grad():
        relation.pos_proj[0].weight[1] = 0
        relation.pos_proj[0].bias[1] = 0
    _, heads = mean_bias(relation)
    assert (heads[1] == 0).all()
    assert (heads[0] > 0).any()


def test_only_size_matters_where_only_size_has_weight(relation):
    with torch.no_grad():
        relation.pos_proj[0].weight[:, :32] = 0
    _, heads = mean_bias(relation)
    assert np.ptp(heads, axis=2).max() < 1e-5
    assert np.ptp(heads, axis=1).max() > 0.01
