"""Backbones of detectors."""

import pytest
import torch
from torch import nn

from models.detr.backbones import build_backbone
from models.detr.network import RelationDetr
from models.detr.transformer import TransformerSizes


def test_item_14_a_resnet_has_the_official_keys_and_parameters():
    backbone, channels = build_backbone("resnet50")
    names = backbone.state_dict().keys()
    assert len(names) == 265
    assert {"conv1.weight", "bn1.running_mean", "layer4.2.bn3.bias"} <= names
    network = RelationDetr(backbone, channels, 91, TransformerSizes())
    assert len(network.state_dict()) == 595
    assert sum(parameter.numel() for parameter in network.parameters()) == 48_869_312


def test_batch_norms_stay_frozen():
    backbone, _ = build_backbone("resnet18")
    backbone.train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    assert not any("bn" in name for name, _ in backbone.named_parameters())


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("resnet18", {}),
        ("convnext_atto", {}),
        ("swin_tiny_patch4_window7_224", {"strict_img_size": False}),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}),
    ],
)
def test_every_family_gives_maps_of_three_strides(name, args):
    backbone, channels = build_backbone(name, **args)
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(each.shape) for each in maps] == [
        (1, width, 64 // stride, 96 // stride) for width, stride in zip(channels, (8, 16, 32), strict=True)
    ]


def test_a_model_that_is_none_is_refused():
    with pytest.raises(ValueError, match="resnet5x"):
        build_backbone("resnet5x")


def test_a_transformer_of_one_block_is_a_backbone():
    backbone, channels = build_backbone("vit_tiny_patch16_224", image_size=(32, 32), embed_dim=24, depth=1, num_heads=2)
    assert channels == [24, 24, 24]
    assert [tuple(each.shape[-2:]) for each in backbone(torch.zeros(1, 3, 32, 32))] == [(4, 4), (2, 2), (1, 1)]
