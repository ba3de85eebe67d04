"""What the encoder of position pre-training computes, and which networks it takes.

Numbers in names are those of the acceptance list in ``docs/methods/droppos.md``.
"""

import pytest
import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import ResPostBlock, VisionTransformer

from models.droppos.decoders import DecoderShape
from models.droppos.encoder import encode, encode_whole
from models.droppos.masks import Masking, Masks, MaskSampler
from models.droppos.network import MaskedPositionNetwork
from models.timm_attention import install_attention

HARD = torch.eye(16)


def small_encoder(**options):
    shape = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return VisionTransformer(**shape | {"num_classes": 0} | options)


def small_network(encoder=None, decoder=DecoderShape(16, 1, 2), **options):  # noqa: B008
    return MaskedPositionNetwork(encoder or small_encoder(), decoder=decoder, **options)


def draw(masking=Masking(0.5, 0.5)):  # noqa: B008
    return MaskSampler(masking, 16, seed=0).draw(2)


@pytest.mark.parametrize("routed", [False, True], ids=["timm's attention", "ours"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reg_tokens": 2},
        {"reg_tokens": 2, "no_embed_class": True, "init_values": 0.1},
        {"qk_norm": True, "qkv_bias": False},
        {"block_fn": ResPostBlock},
    ],
)
def test_with_everything_shown_it_is_the_plain_one(options, routed):
    network = small_network(encoder=small_encoder(**options)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images, every = torch.randn(2, 3, 16, 16), torch.arange(16).expand(2, -1)
    expected = network.encoder.forward_features(images)
    if routed:
        install_attention(network)
    shown = Masks(every, every < 0, None)
    torch.testing.assert_close(encode(network.encoder, images, shown, None), expected, atol=1e-5, rtol=0)
    wanted = torch.tensor([[3, 7], [9, 0]])
    prefix = network.encoder.num_prefix_tokens
    some = torch.cat([expected[:, :prefix], expected[:, prefix:][torch.arange(2)[:, None], wanted]], dim=1)
    torch.testing.assert_close(encode_whole(network.encoder, images, wanted), some, atol=1e-5, rtol=0)
    readable = shown._replace(context=every)
    torch.testing.assert_close(encode(network.encoder, images, readable, None), expected, atol=1e-5, rtol=0)


def test_item_1_fifty_tokens_of_a_published_image_enter_the_encoder():
    encoder = small_encoder(img_size=224, patch_size=16, depth=1)
    small_network(encoder)
    seen = []
    encoder.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    masks = MaskSampler(Masking(), 196, seed=0).draw(2)
    assert encode(encoder, torch.zeros(2, 3, 224, 224), masks, torch.zeros(24)).shape == (2, 50, 24)
    assert seen == [(2, 50, 24)]


class TestClassToken:
    @pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}])
    def test_item_3_has_the_position_of_row_zero(self, options):
        network, images = small_network(small_encoder(**options)), torch.randn(2, 3, 16, 16)
        before = network(images, draw(), HARD).logits
        network.encoder.pos_embed.data[:, 0] = torch.randn(24)
        assert not torch.allclose(network(images, draw(), HARD).logits, before, atol=1e-3)

    @pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}])
    def test_item_3_counts_in_no_loss_or_score_and_keeps_its_position(self, options):
        network, images, masks = (
            small_network(small_encoder(**options), DecoderShape(depth=0)),
            torch.randn(2, 3, 16, 16),
            draw(),
        )
        assert masks.dropped.shape == masks.visible.shape == (2, 8)
        before = network(images, masks, HARD)
        prefix = network.encoder.num_prefix_tokens

        def disturb(module, inputs, tokens):
            return torch.cat([tokens[:, :prefix] + 100, tokens[:, prefix:]], dim=1)

        network.encoder.norm.register_forward_hook(disturb)
        after = network(images, masks, HARD)
        assert torch.equal(after.logits, before.logits)
        assert after.logits.shape == (2, 8, 16)
        assert after.weights.shape == (2, 8)
        assert after.loss == before.loss


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
def test_refuses_what_cannot_be_trained_so(build, message):
    encoder = build()
    with pytest.raises(ValueError, match=message):
        small_network(encoder=encoder)


def test_refuses_images_of_another_size():
    with pytest.raises(ValueError, match="20 x 16 pixels for an encoder built for 16 x 16"):
        small_network()(torch.zeros(2, 3, 20, 16), draw(), HARD)


def test_decoder_heads_must_divide():
    with pytest.raises(ValueError, match="16 wide cannot be split into 3 heads"):
        small_network(decoder=DecoderShape(16, 1, 3))


def test_attention_of_encoder_and_decoders_can_be_routed():
    network, images = small_network(position_weight=0.05), torch.randn(2, 3, 16, 16)
    before = network(images, draw(), HARD).loss
    assert install_attention(network, "math").installed == {"Attention": 4}
    torch.testing.assert_close(network(images, draw(), HARD).loss, before)
