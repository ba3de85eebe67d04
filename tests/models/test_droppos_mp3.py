"""MP3, which predicts the positions of all patches while attention reads from a part of them.

Numbers in names are those of the acceptance list in ``docs/methods/droppos.md``.
"""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import cross_entropy

from models.droppos.decoders import DecoderShape
from models.droppos.masks import Masking, MaskSampler
from models.droppos.network import MaskedPositionNetwork
from models.droppos.patches import lay_patches, take_patches
from models.droppos.scores import score_positions
from models.timm_attention import install_attention

MP3 = Masking(mask_ratio=0, position_mask_ratio=1, context_ratio=0.25)
HARD = torch.eye(16)


def small_encoder():
    return VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=0)


def mp3_network():
    return MaskedPositionNetwork(small_encoder(), decoder=DecoderShape(depth=0), dropped_position="zeros")


def draw(masking=MP3):
    return MaskSampler(masking, 16, seed=0).draw(2)


def change_patch(images, index):
    patches = take_patches(images, torch.arange(16).expand(2, -1), (4, 4))
    patches[0, index] += 1
    return lay_patches(patches, (4, 4))


@pytest.mark.parametrize("masked", [False, True], ids=["context_ratio=1", "all patches are context"])
def test_item_14_a_whole_context_is_the_plain_vit_without_positions(masked):
    network, images, masks = mp3_network(), torch.randn(2, 3, 16, 16), draw(Masking(0, 1, context_ratio=1))
    assert masks.context is None
    if masked:
        masks = masks._replace(context=torch.arange(16).expand(2, -1))
    plain = small_encoder()
    plain.load_state_dict(network.encoder.state_dict())
    plain.pos_embed.data.zero_()
    features = plain.forward_features(images)[:, 1:][torch.arange(2)[:, None], masks.visible]
    logits = network(images, masks, HARD).logits
    torch.testing.assert_close(logits, network.decoder.pred(features), atol=1e-5, rtol=0)


def test_item_14_other_patches_are_read_by_none():
    network, images, masks = mp3_network(), torch.randn(2, 3, 16, 16), draw()
    before = network(images, masks, HARD).logits
    for place in set(range(16)) - set(masks.context[0].tolist()):
        after = network(change_patch(images, masks.visible[0, place]), masks, HARD).logits
        others = torch.arange(16) != place
        torch.testing.assert_close(after[0, others], before[0, others], atol=1e-6, rtol=0)
        assert not torch.allclose(after[0, place], before[0, place], atol=1e-3)
        assert torch.equal(after[1], before[1])


def test_item_14_context_patches_are_read_by_all():
    network, images, masks = mp3_network(), torch.randn(2, 3, 16, 16), draw()
    before = network(images, masks, HARD).logits
    read = int(masks.context[0, 0])
    after = network(change_patch(images, masks.visible[0, read]), masks, HARD).logits
    assert ((after[0] - before[0]).abs().amax(1) > 1e-5).all()


def test_item_14_all_patches_count():
    network = mp3_network()
    output = network(torch.randn(2, 3, 16, 16), draw(), HARD)
    assert score_positions(output, (4, 4)).means()["dropped"] == 32
    expected = cross_entropy(output.logits.flatten(0, 1), output.masks.visible.flatten())
    torch.testing.assert_close(output.loss, expected)
    assert [name for name, _ in network.decoder.named_parameters()] == ["pred.weight", "pred.bias"]


def test_routed_attention_takes_the_context():
    network, images, masks = mp3_network(), torch.randn(2, 3, 16, 16), draw()
    before = network(images, masks, HARD).loss
    install_attention(network, "sdpa")
    torch.testing.assert_close(network(images, masks, HARD).loss, before)


def test_features_can_do_without_positions():
    network, images = mp3_network(), torch.randn(2, 3, 16, 16)
    every = torch.arange(16).expand(2, -1)
    turned = lay_patches(take_patches(images, every.flip(1), (4, 4)), (4, 4))
    for positions, same in ((False, True), (True, False)):
        features = [network.features(batch, positions=positions) for batch in (images, turned)]
        assert features[0].shape == (2, 24)
        assert torch.allclose(*features, atol=1e-5) == same
