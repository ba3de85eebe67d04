"""What position pre-training hides, and what it asks for.

Numbers in names are those of the acceptance list in ``docs/methods/droppos.md``.
"""

import pytest
import torch

from models.droppos.masks import Masking, MaskSampler
from models.droppos.smoothing import decayed_sigma, position_targets

MP3 = Masking(mask_ratio=0, position_mask_ratio=1, context_ratio=0.25)


class TestMasking:
    def test_item_1_counts_of_the_published_size(self):
        masks = MaskSampler(Masking(), 196, seed=0).draw(5)
        assert Masking().counts(196) == (49, 12, 49)
        assert masks.visible.shape == masks.dropped.shape == (5, 49)
        assert masks.dropped.sum(1).tolist() == [37] * 5
        assert masks.context is None

    def test_item_1_no_patch_is_visible_twice(self):
        visible = MaskSampler(Masking(), 196, seed=0).draw(5).visible
        assert all(len(set(row.tolist())) == 49 for row in visible)
        assert visible.min() >= 0
        assert visible.max() < 196

    def test_item_1_counts_do_not_suffer_from_rounding(self):
        assert Masking(mask_ratio=0.9).counts(50).visible == 5
        assert Masking(mask_ratio=0.9).counts(10).visible == 1
        assert MP3.counts(64) == (64, 0, 16)

    def test_item_11_a_seed_means_the_same_masks(self):
        first, again, other = (MaskSampler(MP3, 16, seed=seed).draw(2) for seed in (3, 3, 4))
        assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
        assert not torch.equal(first.visible, other.visible)
        assert first.context.shape == (2, 4)

    def test_item_11_masks_neither_follow_nor_disturb_other_random_numbers(self):
        first, again = MaskSampler(Masking(), 196, seed=3), MaskSampler(Masking(), 196, seed=3)
        before = torch.get_rng_state()
        drawn = first.draw(2)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(99)
        assert torch.equal(again.draw(2).visible, drawn.visible)

    def test_item_11_masks_go_on_where_a_state_was_kept(self):
        sampler, resumed = (MaskSampler(Masking(), 196, seed=seed) for seed in (3, 4))
        sampler.draw(2)
        resumed.generator.set_state(sampler.generator.get_state())
        assert torch.equal(resumed.draw(2).dropped, sampler.draw(2).dropped)

    def test_item_11_masks_are_drawn_in_float32_whatever_a_run_computes_in(self):
        expected = MaskSampler(MP3, 196, seed=3).draw(8)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)  # as Lightning does for precision=bf16-true
        try:
            drawn = MaskSampler(MP3, 196, seed=3).draw(8)
        finally:
            torch.set_default_dtype(default)
        assert all(torch.equal(*pair) for pair in zip(drawn, expected, strict=True))

    def test_item_11_masks_come_on_the_device_of_the_images(self):
        assert all(tensor.is_meta for tensor in MaskSampler(MP3, 16, seed=0).draw(2, "meta"))

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
    @pytest.mark.parametrize("sigma", [0, 1e-200, 1e-160, 1e-23, 1e-3, 0.25, 0.5, 1, 2, 100])
    @pytest.mark.parametrize("grid", [(7, 7), (3, 5)])
    def test_item_4_rows_are_distributions_around_the_truth(self, sigma, grid):
        targets = position_targets(grid, sigma)
        assert (targets >= 0).all()
        torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)), atol=1e-6, rtol=0)
        assert torch.equal(targets.argmax(1), torch.arange(len(targets)))
        ratio = targets / targets.diagonal()[:, None]
        torch.testing.assert_close(ratio, ratio.T, atol=1e-6, rtol=0)

    def test_item_4_a_narrow_map_is_the_identity_and_a_wide_one_even(self):
        for sigma in (0, 1e-200, 1e-160, 1e-23, 1e-3):
            assert torch.equal(position_targets((4, 4), sigma), torch.eye(16))
        torch.testing.assert_close(position_targets((4, 4), 1e4), torch.full((16, 16), 1 / 16))

    def test_item_4_neighbours_of_a_cell_count_alike(self):
        row = position_targets((14, 14), 1.0)[7 * 14 + 2].view(14, 14)
        neighbours = [row[cell].item() for cell in [(6, 2), (8, 2), (7, 1), (7, 3)]]
        assert neighbours == pytest.approx(neighbours[:1] * 4, rel=1e-6)

    def test_item_4_released_behaviour_has_neighbours_two_columns_off(self):
        row = position_targets((14, 14), 1.0, compat="official", patch=16)[7 * 14 + 2].view(14, 14)
        for displaced, true in (((6, 0), (6, 2)), ((8, 4), (8, 2))):
            assert row[displaced] == pytest.approx(row[7, 1].item(), rel=1e-5)
            assert row[true] < 0.1 * row[displaced]

    @pytest.mark.parametrize("sigma", [0, 1e-3, 0.25, 0.5, 1, 2, 100])
    def test_item_4_released_behaviour_on_the_right_grid_is_the_transpose(self, sigma):
        official = position_targets((8, 8), sigma, compat="official", patch=8)
        torch.testing.assert_close(official, position_targets((8, 8), sigma).T)
        torch.testing.assert_close(official.sum(0), torch.ones(64), atol=1e-6, rtol=0)

    @pytest.mark.parametrize(("patch", "least"), [(14, 0.886), (16, 0.659)])
    def test_item_4_released_rows_do_not_sum_to_one(self, patch, least):
        sums = position_targets((14, 14), 1.0, compat="official", patch=patch).sum(1)
        assert sums.min().item() == pytest.approx(least, abs=1e-3)
        assert sums.max().item() == pytest.approx(1.110, abs=1e-3)

    def test_released_behaviour_is_refused_where_it_fails(self):
        with pytest.raises(ValueError, match="at least as many pixels in a patch as patches in a row"):
            position_targets((8, 8), 1.0, compat="official", patch=4)

    @pytest.mark.parametrize("sigma", [1.0, 2.0])
    def test_item_5_width_decays_to_a_last_step_above_zero(self, sigma):
        widths = [decayed_sigma(sigma, epoch, 200) for epoch in (0, 100, 199)]
        assert widths == [sigma, sigma / 2, pytest.approx(sigma / 200)]
        assert torch.equal(position_targets((4, 4), widths[-1]), torch.eye(16))
