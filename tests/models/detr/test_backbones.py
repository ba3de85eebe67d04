"""Backbones of detectors."""

import pytest
import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.swin_transformer import SwinTransformer

from models.detr.backbones import build_backbone
from models.detr.network import RelationDetr
from models.detr.published import adapt_detector
from models.detr.published_backbones import adapt_backbone
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


def published_swin() -> tuple[nn.Module, nn.Module, list[int]]:
    """torchvision's Swin, as the official code has it, and ours."""
    sizes = {"embed_dim": 12, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4]}
    theirs = SwinTransformer([4, 4], window_size=[7, 7], stochastic_depth_prob=0.0, **sizes)
    return theirs, *build_backbone("swin_tiny_patch4_window7_224", strict_img_size=False, **sizes)


def published_convnext() -> tuple[nn.Module, nn.Module, list[int]]:
    """torchvision's ConvNeXt, as the official code has it, and ours."""
    widths = [8, 16, 24, 32]
    theirs = ConvNeXt([CNBlockConfig(n, m, 2) for n, m in zip(widths, [*widths[1:], None], strict=True)])
    return theirs, *build_backbone("convnext_tiny", dims=widths, depths=[2, 2, 2, 2])


@pytest.mark.parametrize("published", [published_swin, published_convnext])
def test_swin_and_convnext_compute_what_the_official_code_does_at_any_size(published):
    torch.manual_seed(0)
    theirs, ours, _ = published()
    theirs.eval(), ours.eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    adapted = adapt_backbone({f"backbone.0.{name}": each for name, each in theirs.state_dict().items()}, ours)
    left = ours.load_state_dict(adapted, strict=False)
    assert not left.missing_keys
    maps = create_feature_extractor(theirs, ["features.3", "features.5", "features.7"])
    for size in ((224, 224), (200, 328), (96, 416)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            wanted, found = maps(images).values(), ours(images)
        for each, other in zip(wanted, found, strict=True):
            each = each.permute(0, 3, 1, 2) if published is published_swin else each
            torch.testing.assert_close(other, each, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("published", "place"), [(published_swin, "0."), (published_convnext, "")])
def test_a_published_detector_with_a_swin_or_convnext_loads_whole(published, place):
    theirs, ours, channels = published()
    sizes = TransformerSizes(
        dim=32, heads=2, hidden=48, encoder_layers=1, decoder_layers=1, queries=6, hybrid_queries=4
    )
    network = RelationDetr(ours, channels, 5, sizes)
    beside = {name: each for name, each in network.state_dict().items() if not name.startswith("backbone.")}
    inside = {name: each for name, each in theirs.state_dict().items() if name.startswith("features.")}
    state = beside | {f"backbone.{place}{name}": each for name, each in inside.items()}
    adapted = adapt_detector(state, network)
    assert adapted.keys() == network.state_dict().keys()
    assert not adapted.fresh
