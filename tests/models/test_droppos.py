"""What position pre-training promises: nothing leaks, nothing divides by zero, and positions can be learned."""

import math

import pytest
import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import ResPostBlock, VisionTransformer

from models.droppos.decoders import DecoderShape, pixel_loss
from models.droppos.encoder import encode, encode_whole
from models.droppos.masks import Masking, Masks, MaskSampler
from models.droppos.network import Affinity, MaskedPositionNetwork
from models.droppos.patches import lay_patches, take_patches
from models.droppos.published import adapt_published
from models.droppos.scores import score_positions
from models.droppos.smoothing import decayed_sigma, position_targets
from models.timm_attention import install_attention
from models.vit import adapt_published as adapt_to_vit

MP3 = Masking(mask_ratio=0, position_mask_ratio=1, context_ratio=0.25)
SMALL = DecoderShape(width=16, depth=1, heads=2)
HARD = torch.eye(16)


def small_encoder(size=16, **options):
    shape = {"img_size": size, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return VisionTransformer(**shape | {"num_classes": 0} | options)


def small_network(size=16, encoder=None, decoder=SMALL, **options):
    return MaskedPositionNetwork(encoder or small_encoder(size), decoder=decoder, **options)


def mp3_network(**options):
    return small_network(decoder=DecoderShape(depth=0), dropped_position="zeros", **options)


def draw(masking=Masking(0.5, 0.5), batch=2, patches=16, seed=0):  # noqa: B008
    return MaskSampler(masking, patches, seed=seed).draw(batch)


def swap_patches(images, first, second):
    """Exchange two patches in the first image."""
    every = torch.arange(16).expand(len(images), -1)
    patches = take_patches(images, every, (4, 4))
    patches[0, [first, second]] = patches[0, [second, first]]
    return lay_patches(patches, (4, 4))


def change_patch(images, index):
    every = torch.arange(16).expand(len(images), -1)
    patches = take_patches(images, every, (4, 4))
    patches[0, index] += 1
    return lay_patches(patches, (4, 4))


def gradients(network):
    found = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.requires_grad}
    network.zero_grad()
    return found


class TestEncoder:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"reg_tokens": 2},
            {"reg_tokens": 2, "no_embed_class": True, "init_values": 0.1},
            {"block_fn": ResPostBlock},
        ],
    )
    def test_with_everything_shown_it_is_the_plain_one(self, options):
        network = small_network(encoder=small_encoder(**options)).eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        images, every = torch.randn(2, 3, 16, 16), torch.arange(16).expand(2, -1)
        expected = network.encoder.forward_features(images)
        shown = Masks(every, every < 0, None)
        torch.testing.assert_close(encode(network.encoder, images, shown, None), expected, atol=1e-5, rtol=0)
        wanted = torch.tensor([[3, 7], [9, 0]])
        prefix = network.encoder.num_prefix_tokens
        some = torch.cat([expected[:, :prefix], expected[:, prefix:][torch.arange(2)[:, None], wanted]], dim=1)
        torch.testing.assert_close(encode_whole(network.encoder, images, wanted), some, atol=1e-5, rtol=0)
        readable = shown._replace(context=every >= 0)
        torch.testing.assert_close(encode(network.encoder, images, readable, None), expected, atol=1e-5, rtol=0)

    def test_class_token_has_the_position_of_row_zero(self):
        network, images = small_network(), torch.randn(2, 3, 16, 16)
        before = network(images, draw(), HARD).logits
        network.encoder.pos_embed.data[:, 0] = torch.randn(24)
        assert not torch.allclose(network(images, draw(), HARD).logits, before, atol=1e-3)
        assert before.shape == (2, 8, 16)

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: timm.create_model("resnet18"), "ResNet is no plain vision transformer"),
            (lambda: VisionTransformerDistilled(img_size=16, patch_size=4, embed_dim=24, depth=1), "is no plain"),
            (lambda: small_encoder(num_classes=3), "num_classes=0"),
            (lambda: small_encoder(global_pool="avg"), "global_pool=token"),
            (lambda: small_encoder(global_pool="avg", class_token=False), "no class token"),
            (lambda: small_encoder(pos_embed="none"), "no position embeddings"),
            (lambda: small_encoder(patch_drop_rate=0.5), "drops patches by itself"),
            (lambda: small_encoder(dynamic_img_size=True), "any size"),
            (lambda: small_encoder(embed_dim=22), "width of 22"),
        ],
    )
    def test_refuses_what_cannot_be_trained_so(self, build, message):
        encoder = build()
        with pytest.raises(ValueError, match=message):
            small_network(encoder=encoder)

    def test_refuses_images_of_another_size(self):
        with pytest.raises(ValueError, match="20 x 16 pixels for an encoder built for 16 x 16"):
            small_network()(torch.zeros(2, 3, 20, 16), draw(), HARD)

    def test_decoder_heads_must_divide(self):
        with pytest.raises(ValueError, match="16 wide cannot be split into 3 heads"):
            small_network(decoder=DecoderShape(16, 1, 3))

    def test_attention_of_encoder_and_decoders_can_be_routed(self):
        network, images = small_network(position_weight=0.05), torch.randn(2, 3, 16, 16)
        before = network(images, draw(), HARD).loss
        assert install_attention(network, "math").installed == {"Attention": 4}
        torch.testing.assert_close(network(images, draw(), HARD).loss, before)


class TestNoLeakage:
    def logits(self, images, masks, network):
        return network(images, masks, HARD).logits

    def test_of_dropped_positions(self):
        network, images, masks = small_network(), torch.randn(2, 3, 16, 16), draw()
        before = self.logits(images, masks, network)
        first, second = masks.dropped[0].nonzero().flatten().tolist()[:2]
        cells = masks.visible[0, [first, second]].tolist()
        swapped = self.logits(swap_patches(images, *cells), masks, network)
        swapped[0, [first, second]] = swapped[0, [second, first]]
        torch.testing.assert_close(swapped, before, atol=1e-5, rtol=0)
        only_there = network.encoder.pos_embed.data
        only_there[0, 1 + torch.tensor(cells)] += 1  # in the second image other cells are dropped
        torch.testing.assert_close(self.logits(images, masks, network)[0], before[0], atol=1e-5, rtol=0)

    def test_of_removed_patches(self):
        network, images, masks = small_network(), torch.randn(2, 3, 16, 16), draw()
        removed = next(cell for cell in range(16) if cell not in masks.visible[0])
        before = self.logits(images, masks, network)
        assert torch.equal(self.logits(change_patch(images, removed), masks, network), before)

    def test_kept_positions_are_seen(self):
        network, images, masks = small_network(), torch.randn(2, 3, 16, 16), draw()
        first, second = (~masks.dropped[0]).nonzero().flatten().tolist()[:2]
        before = self.logits(images, masks, network)
        swapped = self.logits(swap_patches(images, *masks.visible[0, [first, second]].tolist()), masks, network)
        swapped[0, [first, second]] = swapped[0, [second, first]]
        assert not torch.allclose(swapped[0], before[0], atol=1e-3)

    def test_without_positions_order_is_all_there_is(self):
        network, images = small_network(), torch.randn(1, 3, 16, 16)
        masks, order = draw(Masking(0, 1), batch=1), torch.randperm(16)
        shuffled = Masks(masks.visible[:, order], masks.dropped, None)
        before = self.logits(images, masks, network)
        torch.testing.assert_close(self.logits(images, shuffled, network), before[:, order], atol=1e-5, rtol=0)


class TestAffinity:
    @pytest.mark.parametrize("tokens", ["full", "visible"])
    def test_weights_are_a_distribution_without_gradient_or_trace(self, tokens):
        affinity = Affinity(tokens)
        network = small_network(encoder=small_encoder(drop_path_rate=0.5), affinity=affinity)
        images, masks = torch.randn(2, 3, 16, 16), draw()
        before, state = torch.get_rng_state(), {n: t.clone() for n, t in network.state_dict().items()}
        weights = network.affinity_weights(images, masks, affinity)
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
        assert all(module.training for module in network.modules())
        assert not weights.requires_grad
        assert (weights > 0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(2))

    def test_gradients_are_those_of_constant_weights(self, monkeypatch):
        network, images, masks = small_network(affinity=Affinity()), torch.randn(2, 3, 16, 16), draw()
        network(images, masks, HARD).loss.backward()
        found, constant = gradients(network), network.affinity_weights(images, masks, Affinity())
        monkeypatch.setattr(network, "affinity_weights", lambda *_: constant)
        network(images, masks, HARD).loss.backward()
        for name, gradient in gradients(network).items():
            torch.testing.assert_close(gradient, found[name], msg=name)

    def test_limits_of_the_temperature(self):
        network, images, masks = small_network(), torch.randn(2, 3, 16, 16), draw()
        plain = network(images, masks, HARD).loss
        network.affinity = Affinity(temperature=1e6)
        torch.testing.assert_close(network(images, masks, HARD).loss, plain)
        nearest = network.affinity_weights(images, masks, Affinity(temperature=0.1)).argmax(1)
        concentrated = network.affinity_weights(images, masks, Affinity(temperature=1e-6))
        assert torch.equal(concentrated.argmax(1), nearest)
        assert concentrated.max(1).values.tolist() == pytest.approx([1, 1])

    def test_no_loss_where_all_weight_lies_on_kept_positions(self):
        network, images, masks = small_network(), torch.randn(2, 3, 16, 16), draw()
        network.affinity = Affinity(temperature=1e-8)
        nearest = network.affinity_weights(images, masks, network.affinity).argmax(1)
        kept = torch.ones_like(masks.dropped).scatter(1, nearest[:, None], False)
        output = network(images, masks._replace(dropped=kept), HARD)
        assert output.loss.item() == 0

    def test_visible_tokens_alone_know_nothing_of_removed_ones(self):
        network, images, masks = small_network(), torch.randn(2, 3, 16, 16), draw()
        removed = next(cell for cell in range(16) if cell not in masks.visible[0])
        changed = change_patch(images, removed)
        for tokens, same in (("visible", True), ("full", False)):
            weights = [network.affinity_weights(batch, masks, Affinity(tokens)) for batch in (images, changed)]
            assert torch.equal(*weights) == same

    def test_only_due_steps_are_weighted(self):
        affinity = Affinity(every=3)
        assert [affinity.due(step) for step in range(5)] == [True, False, False, True, False]
        network, images, masks = small_network(affinity=affinity), torch.randn(2, 3, 16, 16), draw()
        assert torch.equal(network(images, masks, HARD, weighted=False).weights, masks.dropped.float())

    @pytest.mark.parametrize("wrong", [{"temperature": 0}, {"every": 0}])
    def test_refuses_what_cannot_be(self, wrong):
        with pytest.raises(ValueError, match=f"affinity.{next(iter(wrong))}=0"):
            Affinity(**wrong)


class TestGradients:
    @pytest.mark.parametrize(
        ("build", "masking"),
        [
            (small_network, Masking(0.5, 0.5)),
            (lambda: small_network(position_weight=0.05, affinity=Affinity()), Masking(0.5, 0.5)),
            (lambda: small_network(encoder=small_encoder(reg_tokens=2)), Masking(0.5, 0.5)),
            (mp3_network, MP3),
        ],
    )
    @pytest.mark.parametrize("autocast", [False, True])
    def test_reach_every_trainable_parameter(self, build, masking, autocast):
        network = build()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = network(torch.randn(2, 3, 16, 16), draw(masking), HARD)
        assert output.loss.dtype == output.weights.dtype == torch.float32
        output.loss.backward()
        assert network.encoder.pos_embed.grad is None
        assert network.mask_pos_token.requires_grad == (network.dropped_position == "learned")
        assert all(gradient is not None and gradient.any() for gradient in gradients(network).values())

    @pytest.mark.parametrize("options", [{}, {"affinity": Affinity()}, {"position_weight": 0.05}])
    def test_are_zero_where_no_position_is_dropped(self, options):
        network = small_network(**options)
        output = network(torch.randn(2, 3, 16, 16), draw(Masking(0.5, 0)), HARD)
        output.loss.backward()
        assert output.position_loss.item() == 0
        assert all(gradient.isfinite().all() for gradient in gradients(network).values() if gradient is not None)
        means = score_positions(output, (4, 4)).means()
        assert {name: value.item() for name, value in means.items()} == dict.fromkeys(means, 0)

    def test_loss_of_an_undecided_network_is_log_n(self):
        network = small_network()
        torch.nn.init.zeros_(network.decoder.pred.weight)
        for sigma in (0, 0.5, 2):
            loss = network(torch.randn(2, 3, 16, 16), draw(), position_targets((4, 4), sigma)).loss
            assert loss.item() == pytest.approx(math.log(16), abs=1e-5)


class TestMp3:
    def test_whole_context_is_the_plain_network(self):
        network, images = mp3_network(), torch.randn(2, 3, 16, 16)
        without = draw(Masking(0, 1))
        whole = without._replace(context=torch.ones_like(without.dropped))
        torch.testing.assert_close(network(images, whole, HARD).logits, network(images, without, HARD).logits)

    def test_other_patches_are_read_by_none(self):
        network, images, masks = mp3_network(), torch.randn(2, 3, 16, 16), draw(MP3)
        place = int((~masks.context[0]).nonzero()[0])
        changed = change_patch(images, masks.visible[0, place])
        before, after = (network(batch, masks, HARD).logits for batch in (images, changed))
        others = torch.arange(16) != place
        torch.testing.assert_close(after[0, others], before[0, others], atol=1e-6, rtol=0)
        assert not torch.allclose(after[0, place], before[0, place], atol=1e-3)
        read = int(masks.context[0].nonzero()[0])
        changed = change_patch(images, masks.visible[0, read])
        assert not torch.allclose(network(changed, masks, HARD).logits[0, place], before[0, place], atol=1e-5)

    def test_all_patches_count(self):
        network = mp3_network()
        output = network(torch.randn(2, 3, 16, 16), draw(MP3), HARD)
        assert score_positions(output, (4, 4)).means()["dropped"] == 32
        assert [name for name, _ in network.decoder.named_parameters()] == ["pred.weight", "pred.bias"]

    def test_routed_attention_takes_the_context(self):
        network, images, masks = mp3_network(), torch.randn(2, 3, 16, 16), draw(MP3)
        before = network(images, masks, HARD).loss
        install_attention(network, "sdpa")
        torch.testing.assert_close(network(images, masks, HARD).loss, before)

    def test_features_can_do_without_positions(self):
        network, images = mp3_network(), torch.randn(2, 3, 16, 16)
        every = torch.arange(16).expand(2, -1)
        turned = lay_patches(take_patches(images, every.flip(1), (4, 4)), (4, 4))
        for positions, same in ((False, True), (True, False)):
            features = [network.features(batch, positions=positions) for batch in (images, turned)]
            assert features[0].shape == (2, 24)
            assert torch.allclose(*features, atol=1e-5) == same


class TestPixels:
    def test_nothing_removed_is_no_loss(self):
        every = torch.arange(16).expand(2, -1)
        assert pixel_loss(torch.randn(2, 16, 48), torch.randn(2, 16, 3, 4, 4), every).item() == 0

    def test_perfect_patches_and_visible_ones_cost_nothing(self):
        patches, visible = torch.randn(2, 16, 3, 4, 4), torch.tensor([[0, 1], [2, 3]])
        values = patches.movedim(2, -1).flatten(2)
        perfect = (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True) + 1e-6).sqrt()
        perfect[0, 1] += 5
        assert pixel_loss(perfect, patches, visible).item() == pytest.approx(0, abs=1e-10)

    def test_need_a_decoder_with_blocks(self):
        with pytest.raises(ValueError, match="depth 0 and width 512: it needs blocks"):
            small_network(decoder=DecoderShape(depth=0), position_weight=0.05)


def flat(network):
    """The network's weights under the names of the official code."""
    renamed = {"pixel_decoder.pos_embed": "aux_decoder_pos_embed", "pixel_decoder.mask_token": "mask_token"}
    return {
        renamed.get(name, name.removeprefix("encoder.").replace("pixel_decoder.", "aux_decoder_"))
        .replace("decoder.", "decoder_"): tensor
        for name, tensor in network.state_dict().items()
    }  # fmt: skip


class TestPublished:
    def test_official_names_fill_the_whole_network(self):
        source, network = (small_network(position_weight=0.05) for _ in range(2))
        assert "aux_decoder_blocks.0.norm1.weight" in flat(source)
        state = flat(source)
        network.load_state_dict(adapt_published(state, network))
        assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in network.state_dict().items())
        assert state.keys() == flat(source).keys()

    @pytest.mark.parametrize("names", [flat, lambda network: network.state_dict()])
    def test_another_grid_is_resized_but_for_the_head(self, names):
        source, network = small_network(24, position_weight=0.05), small_network(position_weight=0.05)
        adapted, own = adapt_published(names(source), network), network.state_dict()
        assert adapted.keys() == own.keys()
        different = {name for name, tensor in adapted.items() if tensor.shape != own[name].shape}
        assert different == {"decoder.pred.weight", "decoder.pred.bias"}

    def test_only_the_encoder_is_taken_of_other_files(self):
        network, classifier = small_network(), small_encoder(num_classes=3)
        mae = classifier.state_dict() | {"mask_token": torch.zeros(1, 1, 16), "decoder_embed.bias": torch.zeros(16)}
        adapted = adapt_published(mae, network)
        found = network.load_state_dict(adapted, strict=False)
        assert set(found.unexpected_keys) == {"mask_token", "decoder_embed.bias", "head.weight", "head.bias"}
        assert all(name.startswith(("decoder.", "mask_pos_token")) for name in found.missing_keys)

    def test_own_encoder_feeds_a_classifier(self):
        source, classifier = small_network(), small_encoder(num_classes=3, global_pool="avg")
        inside = {n.removeprefix("encoder."): t for n, t in source.state_dict().items() if n.startswith("encoder.")}
        found = classifier.load_state_dict(adapt_to_vit(inside, classifier), strict=False)
        assert set(found.missing_keys) == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
        assert set(found.unexpected_keys) == {"norm.weight", "norm.bias"}

    def test_is_for_this_network_alone(self):
        with pytest.raises(ValueError, match="VisionTransformer is no masked-position network"):
            adapt_published({}, small_encoder())


def gradient_images(batch):
    """Colour tells the place: red grows with the column, green with the row."""
    ramp = torch.linspace(-1.5, 1.5, 16)
    images = torch.stack([ramp.expand(16, 16), ramp[:, None].expand(16, 16), torch.zeros(16, 16)])
    return images + 0.05 * torch.randn(batch, 3, 16, 16)


@pytest.mark.parametrize(("images", "learnt"), [(gradient_images, True), (lambda n: torch.randn(n, 3, 16, 16), False)])
def test_positions_are_learnt_where_there_is_something_to_learn(images, learnt):
    network, sampler = small_network(), MaskSampler(Masking(0.5, 0.75), 16, seed=0)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    for step in range(150):
        targets = position_targets((4, 4), decayed_sigma(1.0, step // 15, 10))
        optimizer.zero_grad()
        network(images(32), sampler.draw(32), targets).loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = score_positions(network(images(256), sampler.draw(256), HARD), (4, 4)).means()["acc1"].item()
    assert accuracy > 10 / 16 if learnt else 0.5 / 16 < accuracy < 2 / 16
