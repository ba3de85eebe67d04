"""Published weights brought to the masked-position network: whole files of DropPos, the encoders of others."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from models.droppos.decoders import DecoderShape
from models.droppos.network import MaskedPositionNetwork
from models.droppos.published import adapt_published
from models.positions import made_for
from models.vit import adapt_published as adapt_to_vit

PIXELS = {"position_weight": 0.05}


def small_encoder(size=16, **options):
    shape = {"img_size": size, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return VisionTransformer(**shape | {"num_classes": 0} | options)


def small_network(size=16, **options):
    return MaskedPositionNetwork(small_encoder(size), decoder=DecoderShape(16, 1, 2), **options)


def flat(network):
    """The network's weights under the names of the official code."""
    renamed = {"pixel_decoder.pos_embed": "aux_decoder_pos_embed", "pixel_decoder.mask_token": "mask_token"}
    return {
        renamed.get(name, name.removeprefix("encoder.").replace("pixel_decoder.", "aux_decoder_"))
        .replace("decoder.", "decoder_"): tensor
        for name, tensor in network.state_dict().items()
    }  # fmt: skip


def test_official_names_fill_the_whole_network():
    source, network = (small_network(**PIXELS) for _ in range(2))
    assert "aux_decoder_blocks.0.norm1.weight" in flat(source)
    state = flat(source)
    network.load_state_dict(adapt_published(state, network))
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert state.keys() == flat(source).keys()


def test_multi_task_file_leaves_its_pixel_decoder_to_a_network_without():
    source, network = small_network(**PIXELS), small_network()
    found = network.load_state_dict(adapt_published(flat(source), network), strict=False)
    assert not found.missing_keys
    assert {name.partition(".")[0] for name in found.unexpected_keys} == {"pixel_decoder"}
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("names", [flat, lambda network: network.state_dict()], ids=["official", "ours"])
def test_another_grid_is_resized_but_for_the_head(names):
    source, network = small_network(24, **PIXELS), small_network(**PIXELS)
    adapted, own = adapt_published(names(source), network), network.state_dict()
    assert adapted.keys() == own.keys()
    different = {name for name, tensor in adapted.items() if tensor.shape != own[name].shape}
    assert different == {"decoder.pred.weight", "decoder.pred.bias"}


@pytest.mark.parametrize("names", [flat, lambda network: network.state_dict()], ids=["official", "ours"])
def test_the_head_of_another_grid_of_as_many_patches_is_not_taken(names):
    source, network = small_network((8, 32), **PIXELS), small_network(16, **PIXELS)
    with made_for(network, (8, 32)):
        adapted, own = adapt_published(names(source), network), network.state_dict()
    assert own.keys() - adapted.keys() == {"decoder.pred.weight", "decoder.pred.bias"}
    assert adapted["pixel_decoder.pos_embed"].shape == own["pixel_decoder.pos_embed"].shape
    assert not torch.equal(adapted["encoder.pos_embed"], source.encoder.pos_embed)
    same = small_network((8, 32), **PIXELS)
    with made_for(same, (8, 32)):
        assert adapt_published(names(source), same).keys() == own.keys()


@pytest.mark.parametrize("options", [{}, PIXELS], ids=["positions", "pixels"])
def test_only_the_encoder_is_taken_of_mae(options):
    network, classifier = small_network(**options), small_encoder(num_classes=3)
    theirs = {"mask_token": torch.zeros(1, 1, 16), "decoder_embed.bias": torch.zeros(16)}
    theirs |= {"decoder_pos_embed": torch.zeros(1, 17, 16), "decoder_pred.weight": torch.zeros(48, 16)}
    adapted = adapt_published(classifier.state_dict() | theirs, network)
    found = network.load_state_dict(adapted, strict=False)
    assert set(found.unexpected_keys) == {*theirs, "head.weight", "head.bias"}
    assert all(name.startswith(("decoder.", "pixel_decoder.", "mask_pos_token")) for name in found.missing_keys)
    loaded = network.encoder.state_dict()
    assert all(torch.equal(tensor, classifier.state_dict()[name]) for name, tensor in loaded.items())


def test_own_encoder_feeds_a_classifier():
    source, classifier = small_network(), small_encoder(num_classes=3, global_pool="avg")
    inside = {n.removeprefix("encoder."): t for n, t in source.state_dict().items() if n.startswith("encoder.")}
    found = classifier.load_state_dict(adapt_to_vit(inside, classifier), strict=False)
    assert set(found.missing_keys) == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
    assert set(found.unexpected_keys) == {"norm.weight", "norm.bias"}


def test_is_for_this_network_alone():
    with pytest.raises(ValueError, match="VisionTransformer is no masked-position network"):
        adapt_published({}, small_encoder())


def test_only_the_encoder_is_taken_of_transformers_mae():
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    config = transformers.ViTMAEConfig(image_size=16, patch_size=4, decoder_intermediate_size=32, **shape, **decoder)
    state, network = transformers.ViTMAEForPreTraining(config).state_dict(), small_network()
    found = network.load_state_dict(adapt_published(state, network), strict=False)
    assert all(name.startswith(("decoder.", "mask_pos_token")) for name in found.missing_keys)
    # None of its decoder's names is within ours.
    assert not any(name.startswith("decoder.") for name in found.unexpected_keys)
    assert "decoder_pos_embed" in found.unexpected_keys
