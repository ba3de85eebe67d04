"""What position pre-training hides, and what it asks for."""

import pytest
import torch

from models.droppos.masks import Masking, MaskSampler
from models.droppos.smoothing import decayed_sigma, position_targets

MP3 = Masking(mask_ratio=0, position_mask_ratio=1, context_ratio=0.25)


class TestMasking:
    def test_counts_of_the_published_size(self):
        masks = MaskSampler(Masking(), 196, seed=0).draw(5)
        assert Masking().counts(196) == (49, 12, 49)
        assert masks.visible.shape == masks.dropped.shape == (5, 49)
        assert masks.dropped.sum(1).tolist() == [37] * 5
        assert all(len(set(row.tolist())) == 49 for row in masks.visible)

    def test_counts_do_not_suffer_from_rounding(self):
        assert Masking(mask_ratio=0.9).counts(50).visible == 5
        assert MP3.counts(64) == (64, 0, 16)

    def test_a_seed_means_the_same_masks(self):
        first, again, other = (MaskSampler(MP3, 16, seed=seed).draw(2) for seed in (3, 3, 4))
        assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
        assert not torch.equal(first.visible, other.visible)
        assert first.context.sum(1).tolist() == [4, 4]

    @pytest.mark.parametrize(
        ("ratios", "message"),
        [
            ({"mask_ratio": 1.0}, r"mask_ratio=1 must lie in \[0, 1\)"),
            ({"position_mask_ratio": -0.1}, r"position_mask_ratio=-0.1 must lie in \[0, 1\]"),
            ({"context_ratio": 0.0}, r"context_ratio=0 must lie in \(0, 1\]"),
            ({"mask_ratio": 0.99}, "leaves none of 16 patches visible"),
            ({"context_ratio": 0.1}, "leaves none of 4 patches as context"),
        ],
    )
    def test_refuses_ratios_that_leave_nothing(self, ratios, message):
        with pytest.raises(ValueError, match=message):
            Masking(**ratios).counts(16)


class TestTargets:
    @pytest.mark.parametrize("sigma", [0, 1e-200, 1e-3, 0.25, 0.5, 1, 2, 100])
    @pytest.mark.parametrize("grid", [(7, 7), (3, 5)])
    def test_rows_are_distributions_around_the_truth(self, sigma, grid):
        targets = position_targets(grid, sigma)
        assert (targets >= 0).all()
        torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)), atol=1e-6, rtol=0)
        assert torch.equal(targets.argmax(1), torch.arange(len(targets)))
        ratio = targets / targets.diagonal()[:, None]
        torch.testing.assert_close(ratio, ratio.T, atol=1e-6, rtol=0)

    def test_limits(self):
        assert torch.equal(position_targets((4, 4), 1e-3), torch.eye(16))
        torch.testing.assert_close(position_targets((4, 4), 1e4), torch.full((16, 16), 1 / 16))

    def test_neighbours_of_a_cell_count_alike(self):
        row = position_targets((14, 14), 1.0)[7 * 14 + 2].view(14, 14)
        assert len({row[cell].item() for cell in [(6, 2), (8, 2), (7, 1), (7, 3)]}) == 1
        official = position_targets((14, 14), 1.0, compat="official", patch=16)[7 * 14 + 2].view(14, 14)
        assert official[6, 0] == pytest.approx(official[7, 1].item(), rel=1e-5)
        assert official[6, 2] < 0.1 * official[6, 0]

    def test_released_behaviour_is_refused_where_it_fails(self):
        with pytest.raises(ValueError, match="at least as many pixels in a patch as patches in a row"):
            position_targets((8, 8), 1.0, compat="official", patch=4)

    def test_width_decays_to_a_last_step_above_zero(self):
        assert [decayed_sigma(1.0, epoch, 200) for epoch in (0, 100, 199)] == [1.0, 0.5, pytest.approx(1 / 200)]
