"""Attentive reconstruction: what weighs a patch in the loss of position pre-training.

Numbers in names are those of the acceptance list in ``docs/methods/droppos.md``; that the weights are the published
ones is item 2, in ``test_droppos_parity.py``.
"""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import cosine_similarity

from models.droppos.decoders import DecoderShape
from models.droppos.masks import Masking, MaskSampler
from models.droppos.network import Affinity, MaskedPositionNetwork
from models.droppos.patches import lay_patches, take_patches

HARD = torch.eye(16)
BOTH = pytest.mark.parametrize("tokens", ["full", "visible"])


def small_network(affinity=None, **options):
    shape = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    encoder = VisionTransformer(**shape, num_classes=0, **options)
    return MaskedPositionNetwork(encoder, decoder=DecoderShape(16, 1, 2), affinity=affinity)


def draw(masking=Masking(0.5, 0.5)):  # noqa: B008
    return MaskSampler(masking, 16, seed=0).draw(2)


def most_similar(network, images, masks):
    """The visible patch of each image that resembles the class token most, by the plain encoder."""
    tokens = network.encoder.forward_features(images)
    similarity = cosine_similarity(tokens[:, :1], tokens[:, 1:], dim=-1)
    return similarity.gather(1, masks.visible).argmax(1)


@BOTH
def test_item_6_weights_are_a_distribution_without_gradient_or_trace(tokens):
    affinity = Affinity(tokens)
    network = small_network(affinity, drop_path_rate=0.5)
    images, masks = torch.randn(2, 3, 16, 16), draw()
    before, state = torch.get_rng_state(), {n: t.clone() for n, t in network.state_dict().items()}
    weights = network.affinity_weights(images, masks, affinity)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert not weights.requires_grad
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(2))


@BOTH
def test_item_6_gradients_are_those_of_constant_weights(tokens, monkeypatch):
    affinity = Affinity(tokens)
    network, images, masks = small_network(affinity), torch.randn(2, 3, 16, 16), draw()
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}

    def gradients():
        return torch.autograd.grad(network(images, masks, HARD).loss, list(trained.values()))

    found, constant = gradients(), network.affinity_weights(images, masks, affinity)
    monkeypatch.setattr(network, "affinity_weights", lambda *_: constant)
    for name, gradient, expected in zip(trained, found, gradients(), strict=True):
        torch.testing.assert_close(gradient, expected, msg=name)


def test_item_6_a_high_temperature_weights_all_alike():
    network, images, masks = small_network(), torch.randn(2, 3, 16, 16), draw()
    plain = network(images, masks, HARD).loss
    network.affinity = Affinity(temperature=1e6)
    torch.testing.assert_close(network(images, masks, HARD).loss, plain)
    network.affinity = Affinity(temperature=0.01)
    assert not torch.allclose(network(images, masks, HARD).loss, plain, atol=1e-4)


@pytest.mark.parametrize("temperature", [1e-6, 1e-30])
def test_item_6_a_low_temperature_leaves_the_patch_most_like_the_class_token(temperature):
    network, images, masks = small_network().eval(), torch.randn(2, 3, 16, 16), draw()
    weights = network.affinity_weights(images, masks, Affinity(temperature=temperature))
    nearest = torch.nn.functional.one_hot(most_similar(network, images, masks), 8).float()
    torch.testing.assert_close(weights, nearest)


def test_item_6_no_loss_where_all_weight_lies_on_kept_positions():
    network, images, masks = small_network(Affinity(temperature=1e-8)), torch.randn(2, 3, 16, 16), draw()
    nearest = most_similar(network, images, masks)
    kept = torch.ones_like(masks.dropped).scatter(1, nearest[:, None], False)
    output = network(images, masks._replace(dropped=kept), HARD)
    assert output.loss.item() == 0
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_visible_tokens_alone_know_nothing_of_removed_ones():
    network, images, masks = small_network(), torch.randn(2, 3, 16, 16), draw()
    removed = next(cell for cell in range(16) if cell not in masks.visible[0])
    patches = take_patches(images, torch.arange(16).expand(2, -1), (4, 4))
    patches[0, removed] += 1
    changed = lay_patches(patches, (4, 4))
    for tokens, same in (("visible", True), ("full", False)):
        weights = [network.affinity_weights(batch, masks, Affinity(tokens)) for batch in (images, changed)]
        assert torch.equal(*weights) == same


def test_visible_tokens_are_the_full_image_where_none_is_removed():
    network, images, masks = small_network(), torch.randn(2, 3, 16, 16), draw(Masking(0, 0.5))
    full, visible = (network.affinity_weights(images, masks, Affinity(tokens)) for tokens in ("full", "visible"))
    torch.testing.assert_close(visible, full)


def test_only_due_steps_are_weighted():
    affinity = Affinity(every=3)
    assert [affinity.due(step) for step in range(5)] == [True, False, False, True, False]
    network, images, masks = small_network(affinity), torch.randn(2, 3, 16, 16), draw()
    assert torch.equal(network(images, masks, HARD, weighted=False).weights, masks.dropped.float())


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"every": 0}])
def test_refuses_what_cannot_be(wrong):
    with pytest.raises(ValueError, match=f"affinity.{next(iter(wrong))}=0"):
        Affinity(**wrong)


@BOTH
@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "bfloat16 throughout"])
def test_item_12_weights_are_taken_in_float32(tokens, autocast):
    affinity = Affinity(tokens)
    network, images, masks = small_network(affinity), torch.randn(2, 3, 16, 16), draw()
    if not autocast:
        network, images = network.bfloat16(), images.bfloat16()
    encoded = []
    network.encoder.norm.register_forward_hook(lambda module, inputs, output: encoded.append(output))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        weights = network.affinity_weights(images, masks, affinity)
    assert weights.dtype == torch.float32
    last = encoded[-1].double()
    similarity = cosine_similarity(last[:, :1], last[:, 1:], dim=-1)
    torch.testing.assert_close(weights.double(), (similarity / 0.1).softmax(1), atol=1e-6, rtol=0)
