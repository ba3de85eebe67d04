import math
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from augment.mixing import Mix, Mixer, masked_cells, mix_images, own_share, partner_problem, valid_mask_patches

KINDS = ("maskmix", "mixup", "cutmix")
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]


def mixer(seed: int = 0, **options: Any) -> Mixer:
    weights = dict.fromkeys(KINDS, 0.0)
    alphas = {"maskmix_alpha": 1.0, "mixup_alpha": 0.8, "cutmix_alpha": 1.0}
    return Mixer(**{**weights, **alphas, "mask_patch": 8, "partner": "permutation", **options}, seed=seed)


def draw(batch_size: int, height: int, width: int, seed: int = 0, **options: Any) -> Mix:
    mix = mixer(seed, **options).draw(batch_size, height, width)
    assert mix is not None
    return mix


def assert_same(one: Mix, two: Mix) -> None:
    assert (one.kind, one.box, one.mask_patch) == (two.kind, two.box, two.mask_patch)
    assert torch.equal(one.partner, two.partner)
    assert torch.equal(one.share, two.share)
    assert (one.cells is None and two.cells is None) or torch.equal(one.cells, two.cells)


def of_cells(cells: Tensor, partner: Tensor, mask_patch: int, image_size: tuple[int, int]) -> Mix:
    mix = Mix("maskmix", partner, torch.empty(0), cells=cells, mask_patch=mask_patch)
    share = own_share(mix, (1, 1), image_size).squeeze(1)
    return Mix("maskmix", partner, share, cells=cells, mask_patch=mask_patch)


def own_pixels(mix: Mix, height: int, width: int) -> Tensor:
    """B H W: 1 where the pixel is the image's own, for partners that are other images."""
    images = torch.arange(len(mix.partner), dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, height, width)
    return (mix_images(images, mix) == images).squeeze(1).double()


# Drawing


@pytest.mark.parametrize("partner", ["permutation", "flip"])
def test_same_seed_draws_the_same_mixes_and_leaves_the_global_state_alone(partner: str):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    options = {"maskmix": 0.4, "mixup": 0.3, "cutmix": 0.3, "partner": partner}
    first, again, other = mixer(3, **options), mixer(3, **options), mixer(4, **options)
    differ = 0
    for _ in range(30):
        one, two, three = first.draw(6, 16, 24), again.draw(6, 16, 24), other.draw(6, 16, 24)
        assert_same(one, two)
        differ += not torch.equal(one.share, three.share)
    assert differ > 20
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_a_restored_generator_continues_the_draws():
    first, again = mixer(1, maskmix=1.0), mixer(2, maskmix=1.0)
    first.draw(4, 32, 32)
    again.generator.set_state(first.generator.get_state())
    assert_same(first.draw(4, 32, 32), again.draw(4, 32, 32))


def test_weights_are_shares_of_the_batches():
    draws = mixer(maskmix=0.3, mixup=0.1, cutmix=0.4)
    kinds = [mix.kind if (mix := draws.draw(2, 16, 16)) else None for _ in range(4000)]
    for kind, weight in (("maskmix", 0.3), ("mixup", 0.1), ("cutmix", 0.4), (None, 0.2)):
        assert kinds.count(kind) / len(kinds) == pytest.approx(weight, abs=0.03)


def test_weights_of_zero_mix_nothing():
    assert all(mixer(mask_patch=None).draw(3, 7, 9) is None for _ in range(50))


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha: float):
    draws = mixer(mixup=1.0, mixup_alpha=alpha)
    shares = torch.cat([draws.draw(1, 4, 4).share for _ in range(8000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)


def test_every_sample_keeps_as_many_cells_but_other_ones():
    for seed in range(20):
        mix = draw(16, 32, 48, seed, maskmix=1.0)
        assert mix.cells.shape == (16, 4, 6)
        assert mix.cells.dtype == torch.bool
        kept = mix.cells.flatten(1).sum(1)
        assert kept.unique().numel() == 1
        torch.testing.assert_close(mix.share, kept / 24)
        if 2 < kept[0] < 22:
            assert mix.cells.flatten(1).unique(dim=0).shape[0] > 8


def test_every_cell_is_kept_equally_often():
    samples, cells = 10_000, 16
    mix = next(mix for seed in range(20) if 0.3 < (mix := draw(samples, 32, 32, seed, maskmix=1.0)).share[0] < 0.7)
    share = mix.share[0].item()
    frequency = mix.cells.flatten(1).double().mean(0)
    assert frequency.shape == (cells,)
    assert (frequency - share).abs().max() < 4 * math.sqrt(share * (1 - share) / samples)


def test_numbers_of_kept_cells_are_uniform_for_an_alpha_of_one():
    draws = mixer(maskmix=1.0)
    kept = torch.tensor([round(draws.draw(1, 32, 32).share.item() * 16) for _ in range(8000)])
    counts = kept.bincount(minlength=17)
    assert counts[0] == 0
    assert (counts[1:] / 8000 - 1 / 16).abs().max() < 4 * math.sqrt(1 / 16 * 15 / 16 / 8000)


@given(st.integers(1, 4096), st.floats(0, 1))
def test_masked_cells_stay_within_the_cells(cells: int, share: float):
    assert (masked_cells(cells, 0), masked_cells(cells, 1)) == (0, cells)
    kept = masked_cells(cells, share)
    assert kept - 1 <= share * cells <= kept <= cells


def test_flip_pairs_first_and_last():
    assert draw(4, 8, 8, mixup=1.0, partner="flip").partner.tolist() == [3, 2, 1, 0]


# What cannot be drawn


@pytest.mark.parametrize(
    ("batch_size", "partner", "mixed", "problem"),
    [
        (1, "permutation", 0.5, "a batch of 1 has no partner"),
        (1, "flip", 0.5, "a batch of 1 has no partner"),
        (7, "flip", 1e-9, "a batch of 7 .*partner=flip"),
        (7, "permutation", 1.0, None),
        (8, "flip", 1.0, None),
        (2, "permutation", 1.0, None),
        (1, "flip", 0.0, None),
    ],
)
def test_which_batches_cannot_be_paired(batch_size: int, partner: str, mixed: float, problem: str | None):
    found = partner_problem(batch_size, partner, mixed)
    assert found is None if problem is None else re.match(problem, found or "")
    if problem and partner == "flip":
        with pytest.raises(ValueError, match=f"{problem}.*even batch size or partner=permutation"):
            mixer(mixup=mixed, partner=partner).draw(batch_size, 8, 8)
    else:
        mixer(mixup=mixed, partner=partner).draw(batch_size, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_permutation_mixes_an_odd_batch(kind: str):
    images = torch.randn(7, 3, 16, 24)
    mix = draw(7, 16, 24, **{kind: 1.0})
    assert sorted(mix.partner.tolist()) == list(range(7))
    assert mix_images(images, mix).shape == images.shape


@pytest.mark.parametrize(("mask_patch", "height", "width"), [(64, 224, 224), (32, 224, 240), (48, 32, 32)])
def test_mask_patch_that_does_not_divide_names_those_that_do(mask_patch: int, height: int, width: int):
    valid = ", ".join(map(str, valid_mask_patches((height, width), 1)))
    expected = (
        f"mask_patch={mask_patch} does not divide images of {height} x {width} pixels into cells; these do: {valid}$"
    )
    draws = mixer(maskmix=0.01, mask_patch=mask_patch)
    for _ in range(3):  # at the first batch, not only once MaskMix is drawn
        with pytest.raises(ValueError, match=expected):
            draws.draw(4, height, width)
    mixer(maskmix=0.0, cutmix=1.0, mask_patch=mask_patch).draw(4, height, width)


def test_valid_mask_patches_are_whole_patches_and_divide_the_image():
    assert valid_mask_patches((224, 224), 16) == [16, 32, 112]
    assert valid_mask_patches((224, 224), 14) == [14, 28, 56, 112]
    assert valid_mask_patches((32, 48), 4) == [4, 8, 16]
    assert valid_mask_patches((224, 448), 112) == [112, 224]
    assert valid_mask_patches((30, 30), 4) == []


@pytest.mark.parametrize("weights", [(0.5, 0.3, 0.4), (-0.1, 0.3, 0.4)])
def test_weights_above_one_or_below_zero_are_refused(weights: tuple[float, float, float]):
    maskmix, mixup, cutmix = weights
    with pytest.raises(ValueError, match=f"maskmix={maskmix}, mixup=0.3 and cutmix=0.4 .* none below 0, and at most 1"):
        mixer(maskmix=maskmix, mixup=mixup, cutmix=cutmix)


def test_maskmix_without_a_mask_patch_is_refused():
    with pytest.raises(ValueError, match="maskmix needs a mask_patch"):
        mixer(maskmix=0.5, mask_patch=None)


# Applying


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_stays_itself(kind: str):
    image = torch.randn(1, 3, 16, 16)
    for seed in range(20):
        assert torch.equal(mix_images(image, draw(1, 16, 16, seed, **{kind: 1.0})), image)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(kind, dtype) for kind in KINDS for dtype in (torch.float32, torch.bfloat16)]
    + [("maskmix", torch.uint8), ("cutmix", torch.uint8)],
)
def test_mixing_keeps_type_device_layout_and_input(
    kind: str, dtype: torch.dtype, memory_format: torch.memory_format, device: str
):
    images = (torch.rand(4, 3, 16, 24) * 255).to(device, dtype).to(memory_format=memory_format)
    kept = images.clone()
    mix = draw(4, 16, 24, seed=1, partner="flip", **{kind: 1.0})
    mixed = mix_images(images, mix)
    assert (mixed.dtype, mixed.device, mixed.shape) == (images.dtype, images.device, images.shape)
    assert mixed.is_contiguous(memory_format=memory_format)
    assert torch.equal(images, kept)
    assert not torch.equal(mixed, kept)
    if kind != "mixup":
        plain = mix_images(images.cpu().double().contiguous(), mix)
        assert torch.equal(mixed.cpu().double(), plain)


def test_mixup_blends_with_the_partner():
    images = torch.randn(3, 1, 4, 4)
    mix = Mix("mixup", torch.tensor([2, 0, 1]), torch.tensor([0.3, 0.0, 1.0]))
    mixed = mix_images(images, mix)
    torch.testing.assert_close(mixed[0], 0.3 * images[0] + 0.7 * images[2])
    assert torch.equal(mixed[1], images[0])
    assert torch.equal(mixed[2], images[2])


def test_cutmix_share_is_the_area_that_stays():
    for seed in range(200):
        mix = draw(2, 20, 30, seed, cutmix=1.0, partner="flip")
        torch.testing.assert_close(own_pixels(mix, 20, 30).mean((1, 2)).float(), mix.share)


def test_an_empty_rectangle_changes_nothing():
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(mix_images(images, Mix("cutmix", torch.tensor([1, 0]), torch.ones(2), (3, 3, 0, 5))), images)


@settings(max_examples=50)
@given(st.data())
def test_maskmix_takes_each_pixel_from_the_image_that_its_cell_names(data: st.DataObject):
    batch, channels, patch = (data.draw(st.integers(1, high)) for high in (5, 4, 9))
    height, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    grid = math.ceil(height / patch), math.ceil(width / patch)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    cells = torch.rand(batch, *grid, generator=generator) < 0.5
    partner = torch.randperm(batch, generator=generator)
    images = torch.randn(batch, channels, height, width, generator=generator)
    kept = images.clone()

    mix = of_cells(cells, partner, patch, (height, width))
    mixed = mix_images(images, mix)

    own = cells.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, :height, :width]
    assert torch.equal(mixed, torch.where(own.unsqueeze(1), images, images[partner]))
    assert torch.equal(images, kept)
    torch.testing.assert_close(mix.share, own.float().mean((1, 2)))


def test_swapping_the_pair_and_complementing_the_mask_changes_nothing():
    images = torch.randn(6, 3, 16, 24)
    mix = draw(6, 16, 24, maskmix=1.0, partner="flip")
    swapped = of_cells(~mix.cells[mix.partner][mix.partner], mix.partner, 8, (16, 24))
    assert torch.equal(mix_images(images, mix), mix_images(images[mix.partner], swapped))
    torch.testing.assert_close(swapped.share, 1 - mix.share)


def test_reordering_the_batch_reorders_the_mixed_images():
    images = torch.randn(6, 3, 16, 16)
    mix = draw(6, 16, 16, maskmix=1.0)
    order = torch.randperm(6)
    partner = order.argsort()[mix.partner[order]]
    reordered = of_cells(mix.cells[order], partner, 8, (16, 16))
    assert torch.equal(mix_images(images[order], reordered), mix_images(images, mix)[order])


class Allocations(TorchDispatchMode):
    """Notes every tensor that operations return, by its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[int, int] = {}
        self.kept: list[Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.bytes[storage.data_ptr()] = storage.nbytes()
                self.kept.append(tensor)  # so that no address is used twice
        return result


@pytest.mark.parametrize(("kind", "batches"), [("maskmix", 0.1), ("mixup", 0.01), ("cutmix", 1.01)])
def test_memory_besides_the_result_is_no_mask_of_pixels_and_at_most_the_pasted_rectangles(kind: str, batches: float):
    images = torch.randn(8, 3, 64, 64)
    mix = draw(8, 64, 64, mask_patch=32, **{kind: 1.0})
    with Allocations() as allocations:
        mixed = mix_images(images, mix)
    known = {tensor.untyped_storage().data_ptr() for tensor in (images, mixed)}
    extra = sum(size for address, size in allocations.bytes.items() if address not in known)
    assert mixed.untyped_storage().data_ptr() in allocations.bytes
    assert extra < batches * images.nbytes
    whole = [tensor for tensor in allocations.kept if tensor.numel() >= 8 * 64 * 64]
    assert all(tensor.dtype == images.dtype for tensor in whole)


# Shares of an attention grid


@pytest.mark.parametrize(("patch", "mask_patch"), [(4, 8), (8, 8), (16, 16), (2, 16)])
def test_every_token_comes_from_one_image_where_the_patches_align(patch: int, mask_patch: int):
    mix = draw(5, 32, 48, maskmix=1.0, mask_patch=mask_patch)
    own = own_share(mix, (32 // patch, 48 // patch), (32, 48))
    repeats = mask_patch // patch
    assert torch.equal(own, mix.cells.repeat_interleave(repeats, 1).repeat_interleave(repeats, 2).flatten(1).float())
    torch.testing.assert_close(own.mean(1), mix.share)


def test_tokens_across_cells_are_shared_by_area():
    """Swin's last stage: 7 x 7 tokens of 32 pixels over 4 x 4 cells of 56."""
    mix = draw(4, 224, 224, maskmix=1.0, mask_patch=56, partner="flip")
    own = own_share(mix, (7, 7), (224, 224))
    averaged = torch.nn.functional.adaptive_avg_pool2d(own_pixels(mix, 224, 224), 7)
    torch.testing.assert_close(own, averaged.flatten(1).float())
    assert ((own > 0) & (own < 1)).any()


@settings(max_examples=50)
@given(grid=st.tuples(*[st.integers(1, 9)] * 2), size=st.tuples(*[st.integers(5, 40)] * 2), patch=st.integers(1, 9))
def test_shares_of_any_grid_average_to_the_share_of_the_image(grid: tuple, size: tuple, patch: int):
    cells = torch.rand(3, *(math.ceil(side / patch) for side in size)) < 0.5
    mix = of_cells(cells, torch.tensor([1, 2, 0]), patch, size)
    own = own_share(mix, grid, size)
    assert own.shape == (3, math.prod(grid))
    assert own.min() >= 0
    assert own.max() <= 1 + 1e-6
    torch.testing.assert_close(own.mean(1), mix.share)


def test_shares_are_exact_under_autocast():
    mix = draw(8, 56, 56, maskmix=1.0)
    expected = own_share(mix, (4, 4), (56, 56))
    with torch.autocast("cpu", torch.bfloat16):
        own = own_share(mix, (4, 4), (56, 56))
    assert own.dtype == torch.float32
    assert torch.equal(own, expected)


def test_mixup_shares_every_token_alike():
    mix = Mix("mixup", torch.tensor([1, 0]), torch.tensor([0.25, 1.0]))
    assert torch.equal(own_share(mix, (1, 3), (8, 8)), torch.tensor([[0.25] * 3, [1.0] * 3]))


def test_cutmix_tokens_follow_the_nearest_pixel_of_the_rectangle():
    mix = draw(2, 40, 24, seed=5, cutmix=1.0, partner="flip")
    pasted = 1 - own_pixels(mix, 40, 24)
    nearest = torch.nn.functional.interpolate(pasted.unsqueeze(1), size=(8, 3), mode="nearest")
    assert 0 < nearest.mean() < 1
    assert torch.equal(own_share(mix, (8, 3), (40, 24)), 1 - nearest.flatten(1).float())
