"""What position pre-training promises: nothing leaks, every parameter learns, and nothing divides by zero.

Numbers in names are those of the acceptance list in ``docs/methods/droppos.md``.
"""

import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from models.droppos.decoders import DecoderShape, pixel_losses
from models.droppos.masks import Masking, Masks, MaskSampler
from models.droppos.network import Affinity, MaskedPositionNetwork, weighted_cross_entropy
from models.droppos.patches import lay_patches, take_patches
from models.droppos.scores import score_positions
from models.droppos.smoothing import position_targets

MP3 = Masking(mask_ratio=0, position_mask_ratio=1, context_ratio=0.25)
ORDERLESS = Masking(mask_ratio=0, position_mask_ratio=1)
NOTHING_DROPPED = Masking(mask_ratio=0.5, position_mask_ratio=0)
HARD = torch.eye(16)
EVERY = torch.arange(16).expand(2, -1)
BOTH_TOKENS = pytest.mark.parametrize("dropped_position", ["learned", "zeros"])


def small_network(**options):
    reg_tokens = options.pop("reg_tokens", 0)
    shape = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    encoder = VisionTransformer(**shape, num_classes=0, reg_tokens=reg_tokens)
    return MaskedPositionNetwork(encoder, **{"decoder": DecoderShape(16, 1, 2)} | options)


def mp3_network():
    return small_network(decoder=DecoderShape(depth=0), dropped_position="zeros")


def draw(masking=Masking(0.5, 0.5)):  # noqa: B008
    return MaskSampler(masking, 16, seed=0).draw(2)


def rearrange(images, order):
    """Show at each cell of the first image what stood at the cell that `order` names there."""
    patches = take_patches(images, EVERY, (4, 4))
    patches[0] = patches[0, order]
    return lay_patches(patches, (4, 4))


def swap_patches(images, first, second):
    order = torch.arange(16)
    order[[first, second]] = order[[second, first]]
    return rearrange(images, order)


def change_patch(images, index):
    patches = take_patches(images, EVERY, (4, 4))
    patches[0, index] += 1
    return lay_patches(patches, (4, 4))


def trained(network):
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


class TestNoLeakage:
    """Of the patches of the first image; the second one stays as it is throughout."""

    @pytest.fixture
    def images(self):
        return torch.randn(2, 3, 16, 16)

    @BOTH_TOKENS
    def test_item_8a_swapped_patches_without_positions_swap_their_logits(self, images, dropped_position):
        network, masks = small_network(dropped_position=dropped_position), draw()
        before = network(images, masks, HARD).logits
        first, second = masks.dropped[0].nonzero().flatten().tolist()[:2]
        swapped = network(swap_patches(images, *masks.visible[0, [first, second]].tolist()), masks, HARD).logits
        assert not torch.allclose(swapped[0, first], before[0, first], atol=1e-3)
        swapped[0, [first, second]] = swapped[0, [second, first]]
        torch.testing.assert_close(swapped, before, atol=1e-5, rtol=0)

    def test_item_8b_removed_patches_change_nothing(self, images):
        network, masks = small_network(), draw()
        before = network(images, masks, HARD).logits
        for cell in set(range(16)) - set(masks.visible[0].tolist()):
            assert torch.equal(network(change_patch(images, cell), masks, HARD).logits, before)
        seen = network(change_patch(images, masks.visible[0, 0]), masks, HARD).logits
        assert ((seen[0] - before[0]).abs().amax(1) > 1e-5).all()

    @BOTH_TOKENS
    def test_item_8c_position_rows_of_dropped_patches_change_nothing(self, images, dropped_position):
        network, masks = small_network(dropped_position=dropped_position), draw()
        before = network(images, masks, HARD).logits
        rows = 1 + masks.visible[0]
        network.encoder.pos_embed.data[0, rows[masks.dropped[0]]] += 1  # the second image may keep these
        assert torch.equal(network(images, masks, HARD).logits[0], before[0])
        network.encoder.pos_embed.data[0, rows[~masks.dropped[0]]] += torch.randn(4, 24)
        assert not torch.allclose(network(images, masks, HARD).logits[0], before[0], atol=1e-3)

    def test_item_8d_kept_positions_are_seen(self, images):
        network, masks = small_network(), draw()
        first, second = (~masks.dropped[0]).nonzero().flatten().tolist()[:2]
        before = network(images, masks, HARD).logits
        swapped = network(swap_patches(images, *masks.visible[0, [first, second]].tolist()), masks, HARD).logits
        swapped[0, [first, second]] = swapped[0, [second, first]]
        assert not torch.allclose(swapped[0], before[0], atol=1e-3)

    @BOTH_TOKENS
    def test_item_8e_without_positions_permuted_patches_permute_the_logits(self, images, dropped_position):
        network, order = small_network(dropped_position=dropped_position), torch.randperm(16)
        masks = draw(ORDERLESS)._replace(visible=EVERY)
        before = network(images, masks, HARD).logits
        after = network(rearrange(images, order), masks, HARD).logits
        torch.testing.assert_close(after[0], before[0, order], atol=1e-5, rtol=0)
        assert not torch.allclose(before[0, order], before[0], atol=1e-3)

    def test_patches_may_enter_in_any_order(self, images):
        network, masks, order = small_network(), draw(), torch.randperm(8)
        before = network(images, masks, HARD)
        after = network(images, Masks(masks.visible[:, order], masks.dropped[:, order], None), HARD)
        torch.testing.assert_close(after.logits, before.logits[:, order], atol=1e-5, rtol=0)
        torch.testing.assert_close(after.loss, before.loss)


class TestGradients:
    @pytest.mark.parametrize(
        ("build", "masking"),
        [
            (small_network, Masking(0.5, 0.5)),
            (lambda: small_network(affinity=Affinity("visible")), Masking(0.5, 0.5)),
            (lambda: small_network(position_weight=0.05, affinity=Affinity()), Masking(0.5, 0.5)),
            (lambda: small_network(reg_tokens=2), Masking(0.5, 0.5)),
            (mp3_network, MP3),
        ],
        ids=["droppos", "visible affinity", "pixels and affinity", "registers", "mp3"],
    )
    @pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
    def test_item_9_reach_every_trainable_parameter_and_no_other(self, build, masking, autocast):
        network = build()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = network(torch.randn(2, 3, 16, 16), draw(masking), HARD)
        output.loss.backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained(network).values())
        fixed = {name for name, _ in network.named_parameters()} - trained(network).keys()
        positions = {"encoder.pos_embed", *(["pixel_decoder.pos_embed"] if network.pixel_decoder else [])}
        assert fixed == positions | (set() if network.dropped_position == "learned" else {"mask_pos_token"})
        assert all(network.get_parameter(name).grad is None for name in fixed)

    @pytest.mark.parametrize("compat", [None, "official"])
    @pytest.mark.parametrize("options", [{}, {"affinity": Affinity()}, {"position_weight": 0.05}])
    def test_item_10_no_dropped_position_is_no_loss_with_gradients(self, options, compat):
        network, targets = small_network(**options), position_targets((4, 4), 1.0, compat=compat, patch=4)
        output = network(torch.randn(2, 3, 16, 16), draw(NOTHING_DROPPED), targets)
        assert output.position_loss.item() == 0
        (output.position_loss * 65536).backward(retain_graph=True)  # as a scaler for float16 begins
        of_positions = {n: p for n, p in trained(network).items() if not n.startswith("pixel_decoder.")}
        assert all(parameter.grad is not None and not parameter.grad.any() for parameter in of_positions.values())
        output.loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in trained(network).values())

    def test_item_10_no_dropped_position_is_counted_and_scored_without_nan(self):
        network = small_network()
        output = network(torch.randn(2, 3, 16, 16), draw(NOTHING_DROPPED), HARD)
        means = score_positions(output, (4, 4)).means()
        assert {name: value.item() for name, value in means.items()} == dict.fromkeys(means, 0)
        assert {"dropped", "acc1", "acc1_weighted", "hard_ce"} <= means.keys()

    @pytest.mark.parametrize("sigma", [0, 0.5, 2, 100])
    def test_item_7_loss_of_an_undecided_network_is_log_n(self, sigma):
        network = small_network()
        torch.nn.init.zeros_(network.decoder.pred.weight)
        loss = network(torch.randn(2, 3, 16, 16), draw(), position_targets((4, 4), sigma)).loss
        assert loss.item() == pytest.approx(math.log(16), abs=1e-6)

    @pytest.mark.parametrize("affinity", [None, Affinity()])
    def test_item_12_losses_are_taken_in_float32_under_autocast(self, affinity):
        network, images, masks = (
            small_network(affinity=affinity, position_weight=0.05),
            torch.randn(2, 3, 16, 16),
            draw(),
        )
        targets = position_targets((4, 4), 1.0)
        with torch.autocast("cpu", torch.bfloat16):
            output = network(images, masks, targets)
        assert output.logits.dtype == torch.bfloat16
        tensors = (output.loss, output.position_loss, output.pixel_losses, output.weights)
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
        each = -(targets[masks.visible].double() * output.logits.double().log_softmax(-1)).sum(-1)
        expected = (output.weights.double() * each).sum() / output.weights.double().sum()
        assert output.position_loss.item() == pytest.approx(expected.item(), rel=1e-6)

    def test_item_12_loss_is_taken_in_float32_of_half_precision_logits(self):
        logits, targets = (4 * torch.randn(2, 8, 16)).half(), position_targets((4, 4), 1.0)[draw().visible]
        loss = weighted_cross_entropy(logits, targets, torch.ones(2, 8))
        expected = -(targets.double() * logits.double().log_softmax(-1)).sum(-1).mean()
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


class TestPixels:
    def test_nothing_removed_is_no_loss(self):
        assert pixel_losses(torch.randn(2, 16, 48), torch.randn(2, 16, 3, 4, 4), EVERY).tolist() == [0, 0]

    def test_perfect_patches_and_visible_ones_cost_nothing(self):
        patches, visible = torch.randn(2, 16, 3, 4, 4), torch.tensor([[0, 1], [2, 3]])
        values = patches.movedim(2, -1).flatten(2)
        perfect = (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True) + 1e-6).sqrt()
        perfect[0, 1] += 5
        assert pixel_losses(perfect, patches, visible).tolist() == pytest.approx([0] * len(patches), abs=1e-10)

    def test_need_a_decoder_with_blocks(self):
        with pytest.raises(ValueError, match="depth 0 and width 512: it needs blocks"):
            small_network(decoder=DecoderShape(depth=0), position_weight=0.05)
