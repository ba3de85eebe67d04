"""Names of published backbones.

Those of detectron2 (which detrex uses) were read in listings of parameters that users of it posted; those of timm and
torchvision come from the libraries.
"""

import re

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from models.detr.backbones import build_backbone
from models.detr.published_backbones import adapt_backbone, expects_bytes

VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8}


def bottlenecks() -> nn.Module:
    """A ResNet with the blocks of ResNet-50, narrow."""
    backbone, _ = build_backbone("resnet50", channels=[4, 8, 8, 16], layers=[1, 1, 1, 1])
    return backbone


def shaken(module: nn.Module) -> dict[str, Tensor]:
    return {name: torch.rand_like(each) + 0.5 for name, each in module.state_dict().items()}


def to_detectron2(name: str) -> str:
    name = re.sub(r"^conv1\.", "stem.conv1.", name)
    name = re.sub(r"^bn1\.", "stem.conv1.norm.", name)
    name = re.sub(r"^layer(\d)", lambda found: f"res{int(found[1]) + 1}", name)
    name = re.sub(r"(?<=\.)bn(\d)\.", r"conv\1.norm.", name)
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        lambda name: f"backbone.0.body.{name}",
        lambda name: f"backbone.{to_detectron2(name)}",
        lambda name: f"module.backbone.{name}",
    ],
    ids=["torchvision", "IDEA", "detrex", "mmdet"],
)
def test_every_layout_of_a_resnet_fits(rename):
    backbone = bottlenecks()
    state = shaken(backbone)
    names = {rename(name): tensor for name, tensor in state.items()} | {"transformer.enc_output.weight": torch.ones(1)}
    adapted = adapt_backbone(names, backbone)
    assert all(torch.equal(adapted[name], tensor) for name, tensor in state.items())
    assert "transformer.enc_output.weight" in adapted


def test_names_of_detectron2_are_those_of_its_own_listings():
    theirs = {to_detectron2(name) for name in bottlenecks().state_dict()}
    listed = {"stem.conv1.weight", "stem.conv1.norm.weight", "res2.0.shortcut.weight", "res2.0.shortcut.norm.bias",
              "res2.0.conv1.weight", "res2.0.conv1.norm.running_var"}  # fmt: skip
    assert listed <= theirs


def test_torchvision_s_resnet_50_is_ours():
    with torch.device("meta"):
        theirs = torchvision.models.resnet50().state_dict()
        backbone, _ = build_backbone("resnet50")
    adapted = adapt_backbone(theirs, backbone)
    own = backbone.state_dict()
    assert len(own) == 265
    assert all(adapted[name].shape == tensor.shape for name, tensor in own.items())


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("convnext_atto", {"dims": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 12, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4]}),
    ],
)
def test_whole_models_of_timm_compute_the_same_as_backbones(name, args):
    sized = {"img_size": (64, 64)} if "swin" in name else {}
    model = timm.create_model(name, **args, **sized).eval()
    backbone, _ = build_backbone(name, image_size=(64, 64) if sized else None, **args)
    adapted = adapt_backbone(model.state_dict(), backbone)
    backbone.load_state_dict({name: adapted[name] for name in backbone.state_dict()})
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        last = backbone.eval()(images)[-1]
        expected = model.forward_features(images)
    expected = expected.permute(0, 3, 1, 2) if sized else expected
    assert last.shape == expected.shape
    if not sized:  # the norm behind the last stage of a Swin is no part of a backbone
        assert torch.allclose(last, expected, atol=1e-5)


class TestUnitsOfPixels:
    def stem(self, gain: float, *, folded: bool) -> dict[str, Tensor]:
        """A first convolution and its batch norm for pixels in units of which one has this gain."""
        kernel = torch.randn(64, 3, 7, 7, generator=torch.Generator().manual_seed(0))
        kernel = kernel / kernel.flatten(1).norm(dim=1)[:, None, None, None]
        scale, variance = torch.full((64,), gain), torch.ones(64)
        if not folded:  # the variance of what the kernel gives, which the batch norm divides by
            kernel, variance = 3 * kernel, torch.full((64,), 9.0)
        return {"conv1.weight": kernel, "bn1.weight": scale, "bn1.running_var": variance}

    @pytest.mark.parametrize("folded", [False, True])
    def test_caffe_s_are_told_from_torchvision_s(self, folded):
        assert not expects_bytes(self.stem(0.3, folded=folded))
        assert expects_bytes(self.stem(0.3 / 57, folded=folded))

    def test_a_fresh_resnet_and_zeros_are_no_caffe(self):
        assert not expects_bytes(torchvision.models.resnet18().state_dict())
        assert not expects_bytes({name: torch.zeros_like(each) for name, each in self.stem(1, folded=True).items()})

    def test_they_are_refused_with_the_reason(self):
        backbone = bottlenecks()
        state = shaken(backbone)
        state["conv1.weight"] = state["conv1.weight"] / 1000
        with pytest.raises(ValueError, match="blue first"):
            adapt_backbone(
                {f"backbone.bottom_up.{to_detectron2(name)}": each for name, each in state.items()}, backbone
            )


class TestPlainTransformer:
    def pyramid(self, size: int) -> nn.Module:
        backbone, _ = build_backbone("vit_tiny_patch16_224", image_size=(size, size), dynamic_img_size=True, **VIT)
        return backbone

    def test_a_classifier_s_transformer_fits_and_the_pyramid_starts_anew(self):
        model = timm.create_model("vit_tiny_patch16_224", img_size=32, **VIT)
        backbone = self.pyramid(32)
        adapted = adapt_backbone(model.state_dict(), backbone)
        assert adapted.fresh == {"finer.weight", "finer.bias"}
        own = {name for name in backbone.state_dict() if name.startswith("model.model.")}
        assert own <= adapted.keys()
        assert torch.equal(adapted["model.model.blocks.1.mlp.fc1.weight"], model.blocks[1].mlp.fc1.weight)

    def test_positions_are_brought_to_another_grid(self):
        model = timm.create_model("vit_tiny_patch16_224", img_size=32, **VIT)
        backbone = self.pyramid(64)
        adapted = adapt_backbone(model.state_dict(), backbone)
        assert adapted["model.model.pos_embed"].shape == (1, 1 + 8 * 8, 24)
        assert adapted.named["model.model.pos_embed"].shape == (1, 1 + 4 * 4, 24)

    def test_one_of_our_own_detectors_keeps_its_pyramid(self):
        backbone = self.pyramid(32)
        state = shaken(backbone)
        adapted = adapt_backbone(state, backbone)
        assert dict(adapted) == state
        assert not adapted.fresh
