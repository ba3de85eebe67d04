import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from augment.labels import attention_share, mix_targets, progressive_share, soft_targets, transmix_share


def area_targets(share: Tensor, num_classes: int, smoothing: float = 0.1) -> Tensor:
    """Targets of a batch whose images have class 0 and whose partners have the last class."""
    both = soft_targets(torch.tensor([0, num_classes - 1]), num_classes, smoothing)
    return torch.lerp(both[1], both[0], share.unsqueeze(1))


def random_mask(batch: int, cells: int, seed: int = 0) -> Tensor:
    return (torch.rand(batch, cells, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


# Targets


def test_targets_are_smoothed_and_shared():
    targets = soft_targets(torch.tensor([0, 2]), 4, smoothing=0.1)
    torch.testing.assert_close(targets[0], torch.tensor([0.925, 0.025, 0.025, 0.025]))
    mixed = mix_targets(targets, torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))
    torch.testing.assert_close(mixed[0], 0.75 * targets[0] + 0.25 * targets[1])
    torch.testing.assert_close(mixed[1], 0.5 * targets[1] + 0.5 * targets[0])


def test_soft_targets_agree_with_the_cross_entropy_of_torch():
    logits, labels = torch.randn(5, 7), torch.randint(0, 7, (5,))
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(functional.cross_entropy(logits, soft_targets(labels, 7, 0.1)), expected)


@settings(max_examples=50)
@given(st.integers(1, 8), st.integers(1, 20), st.floats(0, 0.99), st.integers(0, 2**31))
def test_rows_of_targets_sum_to_one_and_are_not_negative(batch: int, classes: int, smoothing: float, seed: int):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    share = torch.rand(batch, generator=generator)
    targets = soft_targets(labels, classes, smoothing)
    mixed = mix_targets(targets, torch.randperm(batch, generator=generator), share)
    for rows in (targets, mixed):
        assert rows.dtype == torch.float32
        assert (rows.sum(1) - 1).abs().max() <= 1e-6
        assert rows.min() >= 0


def test_a_batch_of_one_keeps_its_own_label():
    targets = soft_targets(torch.tensor([1]), 3, 0.1)
    assert torch.equal(mix_targets(targets, torch.tensor([0]), torch.tensor([0.3])), targets)


def test_a_share_of_one_is_the_smoothed_label():
    targets = soft_targets(torch.tensor([0, 1, 2]), 3, 0.1)
    assert torch.equal(mix_targets(targets, torch.tensor([1, 2, 0]), torch.ones(3)), targets)


def test_one_class_is_certain():
    assert torch.equal(soft_targets(torch.tensor([0, 0]), 1, 0.1), torch.ones(2, 1))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (torch.full((2, 3), 1 / 3), r"float32 of shape \(2, 3\)"),
        (torch.tensor([0.0, 1.0]), r"float32 of shape \(2,\)"),
        (torch.tensor([[0, 1, 0]]), r"int64 of shape \(1, 3\)"),
    ],
    ids=["soft", "floating", "one-hot"],
)
def test_labels_that_are_soft_already_are_refused(labels: Tensor, found: str):
    with pytest.raises(ValueError, match=f"labels are {found}; expected one class index .* soft already"):
        soft_targets(labels, 3, 0.1)


# Shares by attention


def test_uniform_attention_is_shared_by_area():
    own = random_mask(6, 16)
    torch.testing.assert_close(attention_share(own, torch.full((6, 16), 0.03), torch.zeros(6)), own.mean(1))


def test_all_cells_own_is_a_share_of_one():
    assert torch.equal(attention_share(torch.ones(4, 9), torch.rand(4, 9), torch.zeros(4)), torch.ones(4))


def test_complement_of_the_mask_gets_the_other_share():
    own, attention = random_mask(6, 16), torch.rand(6, 16)
    mine, partners = (attention_share(mask, attention, torch.zeros(6)) for mask in (own, 1 - own))
    torch.testing.assert_close(mine + partners, torch.ones(6))


def test_swapping_the_images_with_their_mask_leaves_the_target_unchanged():
    own, attention = random_mask(6, 16), torch.rand(6, 16)
    labels, partner = torch.arange(6) % 4, torch.tensor([5, 4, 3, 2, 1, 0])
    logits = torch.randn(6, 4)
    targets = []
    for mine, theirs, mask in ((labels, labels[partner], own), (labels[partner], labels, 1 - own)):
        area = mask.mean(1)
        first, second = (soft_targets(each, 4, 0.1) for each in (mine, theirs))
        by_area = area[:, None] * first + (1 - area[:, None]) * second
        share, _ = progressive_share(logits, by_area, area, attention_share(mask, attention, area))
        targets.append(share[:, None] * first + (1 - share[:, None]) * second)
    torch.testing.assert_close(targets[0], targets[1])


def test_permuting_the_batch_with_all_that_belongs_to_it_permutes_the_targets():
    own, attention, logits = random_mask(6, 16), torch.rand(6, 16), torch.randn(6, 4)
    labels, partner, order = torch.arange(6) % 4, torch.tensor([1, 2, 0, 5, 3, 4]), torch.tensor([4, 0, 5, 2, 1, 3])

    def targets(own: Tensor, attention: Tensor, logits: Tensor, labels: Tensor, partner: Tensor) -> Tensor:
        area, pure = own.mean(1), soft_targets(labels, 4, 0.1)
        by_area = mix_targets(pure, partner, area)
        share, _ = progressive_share(logits, by_area, area, attention_share(own, attention, area))
        return mix_targets(pure, partner, share)

    moved = order.argsort()[partner[order]]  # where each partner went
    permuted = targets(own[order], attention[order], logits[order], labels[order], moved)
    torch.testing.assert_close(permuted, targets(own, attention, logits, labels, partner)[order])


def test_order_of_the_cells_does_not_matter():
    own, attention, order = random_mask(6, 16), torch.rand(6, 16), torch.randperm(16)
    reordered = attention_share(own[:, order], attention[:, order], torch.zeros(6))
    torch.testing.assert_close(reordered, attention_share(own, attention, torch.zeros(6)))


def test_order_of_the_samples_is_that_of_the_shares():
    own, attention, order = random_mask(6, 16), torch.rand(6, 16), torch.randperm(6)
    reordered = attention_share(own[order], attention[order], torch.zeros(6))
    assert torch.equal(reordered, attention_share(own, attention, torch.zeros(6))[order])


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 7.0, 1e30])
def test_scale_of_the_attention_does_not_matter(factor: float):
    own, attention = random_mask(6, 16), torch.rand(6, 16)
    scaled = attention_share(own, attention * factor, torch.zeros(6))
    torch.testing.assert_close(scaled, attention_share(own, attention, torch.zeros(6)))


def test_attention_of_zero_falls_back_to_the_area():
    area = torch.tensor([0.25, 0.5])
    attention = torch.stack([torch.zeros(16), torch.full((16,), 0.1)])
    share = attention_share(random_mask(2, 16), attention, area)
    assert share[0] == 0.25
    assert share.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shares_of_half_precision_are_float32_and_close(dtype: torch.dtype):
    generator = torch.Generator().manual_seed(0)
    own, area = random_mask(8, 196), torch.rand(8, generator=generator)
    attention = torch.rand(8, 196, generator=generator).softmax(1)
    logits = torch.randn(8, 10, generator=generator) * 3
    shares = []
    for precision in (torch.float32, dtype):
        attended = attention_share(own, attention.to(precision), area)
        share, alpha = progressive_share(logits.to(precision), area_targets(area, 10), area, attended)
        shares.append(torch.stack([attended, transmix_share(area, attended), share, alpha]))
    assert shares[1].dtype == torch.float32
    assert shares[1].isfinite().all()
    assert (shares[1] - shares[0]).abs().max() < 1e-2


def test_shares_stay_float32_under_autocast():
    own, area, logits = random_mask(4, 16), torch.rand(4), torch.randn(4, 10)
    attention, targets = torch.rand(4, 16), area_targets(area, 10)
    plain = progressive_share(logits, targets, area, attention_share(own, attention, area))
    with torch.autocast("cpu", torch.bfloat16):
        cast = progressive_share(logits, targets, area, attention_share(own, attention, area))
    for one, other in zip(plain, cast, strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(one, other)


def test_no_gradient_passes_through_the_attention():
    attention = torch.rand(2, 16, requires_grad=True)
    assert not attention_share(random_mask(2, 16), attention, torch.zeros(2)).requires_grad


def test_attention_with_columns_of_other_tokens_is_refused():
    with pytest.raises(ValueError, match=r"attention has shape \(2, 17\), the mixed cells \(2, 16\).*without those of"):
        attention_share(random_mask(2, 16), torch.rand(2, 17), torch.zeros(2))


def test_transmix_takes_the_mean():
    share = transmix_share(torch.tensor([0.2, 1.0]), torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(share, torch.tensor([0.4, 0.5]))


# Progressive shares


@settings(max_examples=50)
@given(st.integers(1, 12), st.floats(0, 30), st.booleans(), st.integers(0, 2**31))
def test_progressive_shares_lie_between_area_and_attention(classes: int, scale: float, rescale: bool, seed: int):
    generator = torch.Generator().manual_seed(seed)
    area, attended = torch.rand(2, 5, generator=generator)
    logits = scale * torch.randn(5, classes, generator=generator)
    share, alpha = progressive_share(logits, area_targets(area, classes), area, attended, alpha_rescale=rescale)
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    assert (share >= torch.minimum(area, attended) - 1e-6).all()
    assert (share <= torch.maximum(area, attended) + 1e-6).all()


def test_prediction_beside_the_label_is_shared_by_area():
    area, attended = torch.tensor([0.25, 0.5]), torch.tensor([0.9, 0.1])
    targets = area_targets(area, 5, smoothing=0.0)  # nothing for class 1, of which the prediction is certain
    share, alpha = progressive_share(torch.tensor([[0.0, 200, 0, 0, 0]] * 2), targets, area, attended)
    assert torch.equal(alpha, torch.zeros(2))
    assert torch.equal(share, area)


def test_prediction_that_is_the_label_is_shared_by_attention():
    area, attended = torch.tensor([0.25, 0.5]), torch.tensor([0.9, 0.1])
    targets = area_targets(area, 5)
    share, alpha = progressive_share(targets.log(), targets, area, attended)
    torch.testing.assert_close(alpha, torch.ones(2))
    torch.testing.assert_close(share, attended)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (2, (1.000, 0.912, 0.743)),
        (10, (0.486, 0.436, 0.347)),
        (100, (0.157, 0.140, 0.111)),
        (1000, (0.050, 0.044, 0.035)),
    ],
)
def test_alpha_of_a_uniform_prediction_is_not_zero_unless_rescaled(classes: int, expected: tuple[float, ...]):
    area = torch.tensor([0.5, 0.75, 1.0])
    targets, logits = area_targets(area, classes), torch.full((3, classes), 1.5)
    _, alpha = progressive_share(logits, targets, area, torch.zeros(3))
    torch.testing.assert_close(alpha, torch.tensor(expected), atol=6e-4, rtol=0)
    torch.testing.assert_close(alpha, 1 / (math.sqrt(classes) * targets.norm(dim=1)))
    share, rescaled = progressive_share(logits, targets, area, torch.zeros(3), alpha_rescale=True)
    torch.testing.assert_close(rescaled, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(share, area, atol=1e-5, rtol=0)


def test_rescaled_alpha_still_reaches_one():
    area = torch.tensor([0.25, 0.5])
    targets = area_targets(area, 10)
    _, alpha = progressive_share(targets.log(), targets, area, torch.zeros(2), alpha_rescale=True)
    torch.testing.assert_close(alpha, torch.ones(2))


def test_rescaled_alpha_of_a_uniform_label_is_zero():
    """Two classes shared by halves, and a single class: nothing that a prediction could agree with."""
    for classes in (1, 2):
        area = torch.tensor([0.5])
        targets = area_targets(area, classes)
        share, alpha = progressive_share(torch.randn(1, classes), targets, area, torch.ones(1), alpha_rescale=True)
        assert torch.equal(alpha, torch.zeros(1))
        assert torch.equal(share, area)


def test_gradient_reaches_the_logits_through_alpha_only_where_asked():
    area, attended = torch.tensor([0.25, 0.5]), torch.tensor([0.9, 0.1])
    logits = torch.randn(2, 5, requires_grad=True)
    targets = area_targets(area, 5)
    detached, _ = progressive_share(logits, targets, area, attended)
    official, _ = progressive_share(logits, targets, area, attended, alpha_grad=True)
    assert not detached.requires_grad
    assert torch.equal(detached, official)
    (gradient,) = torch.autograd.grad(official.sum(), logits)
    assert gradient.abs().max() > 0
