"""Scores of predicted positions, and the picture of them."""

import math

import pytest
import torch

from models.droppos.masks import Masks
from models.droppos.network import PositionOutput
from models.droppos.patches import lay_patches, take_patches
from models.droppos.reconstruction import reconstruct_positions
from models.droppos.scores import score_positions


def output_of(logits, masks):
    return PositionOutput(torch.zeros(()), torch.zeros(()), None, logits, masks, masks.dropped.float())


class TestScoresAndReconstruction:
    visible = torch.tensor([[0, 5, 15], [1, 2, 3]])
    masks = Masks(visible, torch.tensor([[True, True, False], [True, False, False]]), None)

    def test_scores_count_dropped_positions_alone(self):
        believed = torch.tensor([[0, 15, 3], [1, 0, 0]])
        logits = torch.nn.functional.one_hot(believed, 16) * 50.0
        scores = score_positions(output_of(logits, self.masks), (4, 4))
        assert scores.tokens.tolist() == [2, 1]
        assert scores.correct.tolist() == [1, 1]
        assert scores.distance.tolist() == pytest.approx([math.hypot(2, 2), 0])
        means = scores.means()
        assert means["acc1"].item() == means["acc1_weighted"].item() == pytest.approx(2 / 3)
        assert means["hard_ce"].item() == pytest.approx(50 / 3)

    def test_patches_lie_where_they_are_believed(self):
        images = torch.arange(1.0, 33.0).view(2, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
        believed = torch.tensor([[15, 15, 3], [4, 0, 0]])
        confident = torch.tensor([[3.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
        logits = torch.nn.functional.one_hot(believed, 16) * confident[..., None]
        found = reconstruct_positions(images, output_of(logits, self.masks), grid=(4, 4), patch=(2, 2), background=-1)
        truth, belief = (picture[:, 0, ::2, ::2].flatten(1) for picture in found)
        assert all(picture.shape == images.shape for picture in found)
        assert self.shown(truth) == [{0: 1, 5: 6, 15: 16}, {1: 18, 2: 19, 3: 20}]
        # In the first image two patches are believed where a third one truly is: the most confident covers them.
        assert self.shown(belief) == [{15: 6}, {4: 18, 2: 19, 3: 20}]

    @staticmethod
    def shown(pictures):
        return [{cell: int(value) for cell, value in enumerate(row.tolist()) if value != -1} for row in pictures]

    def test_patches_of_any_shape_lie_as_they_were(self):
        images, every = torch.randn(2, 3, 12, 20), torch.arange(6 * 4).expand(2, -1)
        assert torch.equal(lay_patches(take_patches(images, every, (2, 5)), (6, 4)), images)
