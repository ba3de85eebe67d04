import pytest
import torch

from augment.mixing import Mix, Mixer, mix_images, mix_targets, soft_targets


def mixer(seed: int = 0, **options: float) -> Mixer:
    return Mixer(**{"mixup": 0.0, "cutmix": 0.0, "mixup_alpha": 0.8, "cutmix_alpha": 1.0, **options}, seed=seed)


def test_same_seed_draws_the_same_mixes_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    first, again = (mixer(3, mixup=0.5, cutmix=0.5) for _ in range(2))
    for _ in range(20):
        one, two = first.draw(7, 16, 24), again.draw(7, 16, 24)
        assert (one.share, one.box) == (two.share, two.box)
        assert torch.equal(one.partner, two.partner)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_are_shares_of_the_batches():
    draws = mixer(mixup=0.25, cutmix=0.5)
    kinds = [draws.draw(2, 8, 8) for _ in range(4000)]
    unmixed = sum(kind is None for kind in kinds) / len(kinds)
    blended = sum(kind is not None and kind.box is None for kind in kinds) / len(kinds)
    assert unmixed == pytest.approx(0.25, abs=0.03)
    assert blended == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha):
    draws = mixer(mixup=1.0, mixup_alpha=alpha)
    shares = torch.tensor([draws.draw(1, 4, 4).share for _ in range(8000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)


def test_cutmix_share_is_the_area_that_stays():
    draws = mixer(cutmix=1.0)
    images = torch.zeros(2, 3, 20, 30)
    images[1] = 1
    for _ in range(200):
        mix = draws.draw(2, 20, 30)
        swapped = Mix(torch.tensor([1, 0]), mix.share, mix.box)
        assert mix_images(images, swapped)[0].mean().item() == pytest.approx(1 - mix.share, abs=1e-6)


def test_mixup_blends_with_the_partner_and_keeps_the_input():
    images = torch.randn(3, 1, 4, 4)
    kept = images.clone()
    mix = Mix(torch.tensor([2, 0, 1]), 0.3)
    torch.testing.assert_close(mix_images(images, mix)[0], 0.3 * kept[0] + 0.7 * kept[2])
    assert torch.equal(images, kept)


def test_a_batch_of_one_mixes_with_itself():
    image = torch.randn(1, 3, 8, 8)
    mix = mixer(cutmix=1.0).draw(1, 8, 8)
    assert torch.equal(mix_images(image, mix), image)
    assert torch.equal(mix_targets(soft_targets(torch.tensor([1]), 3), mix), torch.tensor([[0.0, 1.0, 0.0]]))


def test_targets_are_smoothed_and_shared_by_area():
    targets = soft_targets(torch.tensor([0, 2]), 4, smoothing=0.1)
    torch.testing.assert_close(targets[0], torch.tensor([0.925, 0.025, 0.025, 0.025]))
    mixed = mix_targets(targets, Mix(torch.tensor([1, 0]), 0.75))
    torch.testing.assert_close(mixed[0], 0.75 * targets[0] + 0.25 * targets[1])
    torch.testing.assert_close(mixed.sum(1), torch.ones(2))


def test_soft_targets_agree_with_the_cross_entropy_of_torch():
    logits, labels = torch.randn(5, 7), torch.randint(0, 7, (5,))
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(torch.nn.functional.cross_entropy(logits, soft_targets(labels, 7, 0.1)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixing_keeps_the_type(dtype):
    images = torch.randn(4, 3, 8, 8).to(dtype)
    for mix in (Mix(torch.tensor([1, 0, 3, 2]), 0.4), Mix(torch.tensor([1, 0, 3, 2]), 0.75, (0, 4, 0, 4))):
        assert mix_images(images, mix).dtype == dtype
