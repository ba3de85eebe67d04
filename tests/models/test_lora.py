"""Adapters against their formula, and which layers of a network they may change."""

import copy

import pytest
import timm
import torch
from torch import nn

from models.lora import adapter_names, add_adapters, merged, plain_name, projections, remove_adapters, without_adapters
from models.vit import build_model

LAYERS = [f"blocks.{block}.{name}" for block in (0, 1) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]


def tiny_vit() -> nn.Module:
    return build_model("vit", num_classes=3, image_size=16, patch_size=4, embed_dim=12, depth=2, num_heads=2).eval()


def adapted_vit(rank: int = 2) -> nn.Module:
    """A ViT whose adapters do something."""
    network = tiny_vit()
    add_adapters(network, LAYERS, rank)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    return network


def test_an_adapted_layer_computes_w_x_plus_b_a_x():
    layer = nn.Sequential(nn.Linear(5, 7))
    add_adapters(layer, ["0"], 3)
    adapted = layer[0]
    a, b = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
    assert (a.shape, b.shape) == ((3, 5), (7, 3))
    nn.init.normal_(b)
    x = torch.randn(4, 5)
    by_hand = x @ (adapted.base_layer.weight + b @ a).T + adapted.base_layer.bias
    torch.testing.assert_close(layer(x), by_hand)


def test_an_adapted_network_begins_as_the_network_itself():
    network, images = tiny_vit(), torch.randn(2, 3, 16, 16)
    before = network(images)
    add_adapters(network, LAYERS, 2)
    assert torch.equal(network(images), before)


def test_merged_weights_have_plain_names_and_compute_the_same():
    network, images = adapted_vit(), torch.randn(2, 3, 16, 16)
    state, plain = copy.deepcopy(network.state_dict()), tiny_vit()
    weights = merged(network.state_dict())
    assert list(weights) == list(plain.state_dict())
    plain.load_state_dict(weights)
    torch.testing.assert_close(plain(images), network(images))
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_weights_of_a_network_without_adapters_stay_what_they_are():
    state = tiny_vit().state_dict()
    assert all(tensor is state[name] for name, tensor in merged(state).items())


def test_sixteen_bits_are_merged_in_thirty_two():
    state = {name: tensor.bfloat16() for name, tensor in adapted_vit().state_dict().items()}
    name = "blocks.0.mlp.fc1"
    a, b = (state[f"{name}.lora_{letter}.default.weight"].float() for letter in "AB")
    expected = (state[f"{name}.base_layer.weight"].float() + b @ a).bfloat16()
    assert torch.equal(merged(state)[f"{name}.weight"], expected)


def test_removing_adapters_gives_the_network_back():
    network = adapted_vit()
    own = without_adapters(network.state_dict())
    remove_adapters(network)
    assert own.keys() == network.state_dict().keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in network.state_dict().items())
    assert not hasattr(network, "peft_config")
    remove_adapters(network)  # of a network without any: nothing


def test_names_match_whole_layers_and_not_their_endings():
    network = nn.ModuleDict({"proj": nn.Linear(4, 4), "inner": nn.ModuleDict({"proj": nn.Linear(4, 4)})})
    add_adapters(network, ["proj"], 1)
    assert {plain_name(name) for name in adapter_names(network.state_dict())} == {
        "proj.lora_A.default.weight",
        "proj.lora_B.default.weight",
    }


def test_a_rank_above_that_of_a_layer_is_refused():
    with pytest.raises(ValueError, match=r"is 13, and blocks\.0\.attn\.qkv has 12 inputs.*at most 12"):
        add_adapters(tiny_vit(), LAYERS, 13)


def test_adapters_of_a_network_without_memory_have_none():
    with torch.device("meta"):
        network = tiny_vit()
    assert projections(network, (3, 16, 16)) == (LAYERS, [])
    add_adapters(network, LAYERS, 2)
    assert all(parameter.is_meta for parameter in network.parameters())


def test_looking_through_a_network_changes_nothing_of_it():
    network = tiny_vit().train()
    network.blocks[0].eval()
    state = copy.deepcopy(network.state_dict())
    random = torch.get_rng_state()
    assert projections(network, (3, 16, 16)) == (LAYERS, [])
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.children()] == [True] * len(list(network.children()))
    assert not network.blocks[0].training
    assert network.blocks[1].training
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "called", "silent"),
    [
        ("vit_tiny_patch16_224", 48, 0),
        ("swin_tiny_patch4_window7_224", 48, 0),
        ("vit_small_patch16_dinov3", 48, 0),
        ("vit_base_patch16_siglip_224", 53, 0),
        ("convnext_atto", 0, 0),  # its MLPs are convolutions
        ("beit_base_patch16_224", 36, 12),  # reads the weight of `qkv` without calling it
        ("resnet18", 0, 0),
    ],
)
def test_layers_of_attention_and_mlps_are_found_where_the_network_calls_them(name: str, called: int, silent: int):
    with torch.device("meta"):
        network = timm.create_model(name)
    found = projections(network, timm.get_pretrained_cfg(name).input_size)
    assert tuple(map(len, found)) == (called, silent)
    assert all(layer.endswith("attn.qkv") for layer in found[1])
    assert not any(layer.startswith(("head", "patch_embed")) for layer in found[0])


def test_a_network_that_takes_no_such_images_is_refused():
    with pytest.raises(ValueError, match="VisionTransformer cannot be looked through"):
        projections(tiny_vit(), (3, 18, 16))
