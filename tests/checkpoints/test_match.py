"""Published and own weights into timm models: values, reports, refusals."""

import argparse
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate

from models.vit import adapt_published, build_model, head_names
from vision_train.checkpoints import load_weights, match_weights, read_weights
from vision_train.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "mixpro"


def load(model, path, **settings):
    return load_weights(model, path, adapt=adapt_published, heads=head_names(model), **settings)


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class TestOfficialFiles:
    """Files as the official MixPro and TransMix code writes them give its logits."""

    @pytest.fixture(params=["MixPro", "TransMix"])
    def official(self, tmp_path, yacs, request):
        def open_fixture(name):
            tensors = load_file(GOLDEN / f"{name}.safetensors")
            state = {key.removeprefix("sd."): value for key, value in tensors.items() if key.startswith("sd.")}
            training = {"optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}, "lr_scheduler": {}, "epoch": 299}
            if request.param == "MixPro":
                settings = {"scaler": {"scale": 65536.0}, "max_accuracy": 0.8, "config": yacs(MODEL=yacs(TYPE="vit"))}
            else:
                settings = {"args": argparse.Namespace(model="deit_small", mixup=0.8)}
            torch.save({"model": state, **training, **settings}, tmp_path / f"{name}.pth")
            return tmp_path / f"{name}.pth", tensors

        return open_fixture

    def test_vision_transformer(self, official):
        path, tensors = official("vit_tiny")
        model = build_model(
            "vit", num_classes=10, image_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3
        ).eval()
        report = load(model, path)
        assert torch.allclose(model(tensors["images"]), tensors["logits"], atol=1e-5, rtol=0)
        assert report.matched_share == 1
        assert sorted(report.unexpected) == ["head1.bias", "head1.weight", "mask_token"]
        assert {entry.outcome for entry in report.entries} == {"matched", "unexpected"}

    def test_swin(self, official):
        path, tensors = official("swin_tiny")
        shape = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "window_size": 7, "patch_size": 4}
        model = build_model("swin_tiny_patch4_window7_224", num_classes=10, image_size=56, **shape).eval()
        report = load(model, path)
        assert torch.allclose(model(tensors["images"]), tensors["logits"], atol=1e-5, rtol=0)
        assert report.matched_share == 1
        assert report.unexpected == ["layers.0.blocks.1.attn_mask", "mask_token"]
        assert {entry.outcome for entry in report.entries} == {"matched", "unexpected"}


class TestLayouts:
    def test_mae_encoder_for_average_pooling(self, tmp_path, small_vit):
        encoder = {name: w for name, w in small_vit().state_dict().items() if not name.startswith("head")}
        decoder = {"decoder_pos_embed": torch.ones(1, 17, 8), "mask_token": torch.ones(1, 1, 8)}
        torch.save(
            {"model": encoder | decoder | {"decoder_blocks.0.norm1.weight": torch.ones(8)}}, tmp_path / "mae.pth"
        )
        model = small_vit(global_pool="avg")
        report = load(model, tmp_path / "mae.pth")
        assert report.matched_share == 1
        assert report.reinitialised == ["fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"]
        assert {"norm.weight", "norm.bias", *decoder} <= set(report.unexpected)
        assert torch.equal(model.blocks[1].mlp.fc1.weight, encoder["blocks.1.mlp.fc1.weight"])

    def test_mae_encoder_for_token_pooling_keeps_its_norm(self, tmp_path, small_vit):
        encoder = {name: w for name, w in small_vit().state_dict().items() if not name.startswith("head")}
        torch.save({"model": encoder}, tmp_path / "mae.pth")
        report = load(small_vit(), tmp_path / "mae.pth")
        assert report.reinitialised == ["head.weight", "head.bias"]
        assert "norm.weight" in report.matched

    def test_droppos_names_its_model_beside_the_weights(self, tmp_path, small_vit):
        encoder = {f"module.{name}": w for name, w in small_vit().state_dict().items() if not name.startswith("head")}
        more = {"module.mask_pos_token": torch.ones(1, 1, 24), "module.decoder_pred.weight": torch.ones(16, 8)}
        content = {"epoch": 800, "state_dict": encoder | more, "model": "DropPos_mae_vit_base_patch16_dec512d2b"}
        torch.save(content, tmp_path / "droppos.pth")
        report = load(small_vit(global_pool="avg"), tmp_path / "droppos.pth")
        assert report.family == "DropPos pre-training"
        assert report.matched_share == 1
        assert len(report.reinitialised) == 4

    def test_distilled_deit_into_a_plain_model_and_back(self, tmp_path):
        small = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
        distilled = timm.create_model("deit_tiny_distilled_patch16_224", **small)
        torch.nn.init.normal_(distilled.pos_embed)
        torch.save({"model": distilled.state_dict()}, tmp_path / "distilled.pth")
        plain = timm.create_model("deit_tiny_patch16_224", **small)
        with pytest.raises(UserError, match=r"head.*would be kept.*distillation token is dropped.*model\.fresh=\[head"):
            load(plain, tmp_path / "distilled.pth")
        report = load(plain, tmp_path / "distilled.pth", fresh=["head.weight", "head.bias"])
        assert report.matched_share == 1
        assert report.reinitialised == ["head.weight", "head.bias"]
        assert sorted(report.unexpected) == ["dist_token", "head_dist.bias", "head_dist.weight"]
        assert torch.equal(plain.pos_embed[:, 1:], distilled.pos_embed[:, 2:])

        torch.save({"model": plain.state_dict()}, tmp_path / "plain.pth")
        with pytest.raises(UserError, match=r"means nothing without dist_token.*model\.fresh=\[dist_token\]"):
            load(distilled, tmp_path / "plain.pth")
        report = load(distilled, tmp_path / "plain.pth", fresh=["dist_token"])
        assert report.fresh == ["dist_token"]
        assert report.reinitialised == ["head.weight", "head.bias", "head_dist.weight", "head_dist.bias"]

    def test_original_swin_at_another_window(self, tmp_path):
        tensors = load_file(GOLDEN / "swin_tiny.safetensors")
        save_file(
            {k.removeprefix("sd."): v for k, v in tensors.items() if k.startswith("sd.")}, tmp_path / "s.safetensors"
        )
        shape = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "window_size": 6}
        model = build_model("swin_tiny_patch4_window7_224", num_classes=3, image_size=48, **shape)
        report = load(model, tmp_path / "s.safetensors")
        assert report.matched_share == 1
        assert all(name.endswith("relative_position_bias_table") for name in report.resized)
        assert len(report.resized) == 4
        assert report.reinitialised == ["head.fc.weight", "head.fc.bias"]
        assert "head.weight" not in report.unexpected

    @pytest.mark.parametrize("prefix", ["backbone.", "teacher.backbone.", "model.encoder."])
    def test_prefix_beside_other_parts(self, tmp_path, small_vit, prefix):
        source = small_vit()
        state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
        torch.save({"state_dict": state | {"criterion.weight": torch.ones(5)}}, tmp_path / "w.ckpt")
        model = small_vit()
        report = load(model, tmp_path / "w.ckpt")
        assert unchanged(model, source.state_dict())
        assert report.unexpected == ["criterion.weight"]

    def test_values_take_the_type_of_the_model(self, tmp_path, small_vit):
        source = small_vit()
        torch.save({name: tensor.half() for name, tensor in source.state_dict().items()}, tmp_path / "half.pth")
        model = small_vit()
        load(model, tmp_path / "half.pth")
        assert model.cls_token.dtype == torch.float32
        assert torch.equal(model.cls_token, source.cls_token.half().float())


class TestOwnRuns:
    def test_round_trip_through_a_run_directory(self, tmp_path, small_vit):
        trained, averaged = small_vit(), small_vit()
        (tmp_path / "checkpoints").mkdir()
        content = {
            "pytorch-lightning_version": "2.6.6",
            "state_dict": {f"network.{name}": tensor for name, tensor in trained.state_dict().items()},
            "averaged": dict(averaged.state_dict()),
            "classes": ["a", "b", "c", "d", "e"],
        }
        torch.save(content, tmp_path / "checkpoints" / "best.ckpt")
        model = small_vit()
        report = load(model, tmp_path)
        assert unchanged(model, averaged.state_dict())
        assert report.source.startswith("averaged weights of")
        assert report.summary().endswith("fills 100 % of the model")

        del content["averaged"]
        torch.save(content, tmp_path / "checkpoints" / "best.ckpt")
        load(model, tmp_path)
        assert unchanged(model, trained.state_dict())


class TestHeads:
    def test_equal_class_count_loads_the_head(self, tmp_path, small_vit):
        torch.save(small_vit().state_dict(), tmp_path / "w.pth")
        report = load(small_vit(), tmp_path / "w.pth")
        assert {"head.weight", "head.bias"} <= set(report.matched)

    def test_another_class_count_leaves_the_head_fresh(self, tmp_path, small_vit):
        torch.save(small_vit(num_classes=9).state_dict(), tmp_path / "w.pth")
        model = small_vit(num_classes=5)
        fresh = model.head.weight.clone()
        report = load(model, tmp_path / "w.pth")
        assert report.reinitialised == ["head.weight", "head.bias"]
        assert torch.equal(model.head.weight, fresh)
        assert report.matched_share == 1
        assert "fresh head: head.weight (9x24 -> 5x24)" in report.summary()

    def test_a_head_is_never_loaded_by_half(self, tmp_path, small_vit):
        state = small_vit().state_dict()
        del state["head.bias"]
        torch.save(state, tmp_path / "w.pth")
        assert load(small_vit(), tmp_path / "w.pth").reinitialised == ["head.weight", "head.bias"]

    def test_without_named_heads_every_tensor_counts(self, tmp_path, small_vit):
        torch.save(small_vit(num_classes=9).state_dict(), tmp_path / "w.pth")
        report = load_weights(small_vit(num_classes=5), tmp_path / "w.pth", min_matched_share=0.5)
        assert report.missing == ["head.weight", "head.bias"]
        assert report.matched_share < 1


class TestPositions:
    def test_another_image_size(self, tmp_path, small_vit):
        source = small_vit(image_size=16)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        model = small_vit(image_size=24)
        report = load(model, tmp_path / "w.pth")
        grid = source.pos_embed[:, 1:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
        expected = interpolate(grid, size=(6, 6), mode="bicubic", antialias=True)  # as timm does
        expected = expected.permute(0, 2, 3, 1).reshape(1, 36, 24)
        assert torch.allclose(model.pos_embed[:, 1:], expected, atol=1e-6)
        assert torch.equal(model.pos_embed[:, :1], source.pos_embed[:, :1])
        assert report.resized == ["pos_embed"]
        assert "resized: pos_embed (1x17x24 -> 1x37x24)" in report.summary()
        assert model(torch.zeros(1, 3, 24, 24)).shape == (1, 5)

    @pytest.mark.parametrize("share", [0.9, 0.0])
    def test_table_of_unknown_grid_is_refused(self, tmp_path, small_vit, share):
        state = small_vit().state_dict() | {"pos_embed": torch.ones(1, 13, 24)}
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth: does not fit .*pos_embed has 12 places"):
            load(small_vit(), tmp_path / "w.pth", min_matched_share=share)


class TestRefusal:
    def test_another_family_changes_nothing(self, tmp_path, small_vit):
        torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "resnet.pth")
        model = small_vit()
        before = snapshot(model)
        with pytest.raises(UserError) as caught:
            load(model, tmp_path / "resnet.pth")
        assert unchanged(model, before)
        for part in ("resnet.pth: fills 0 % of the model", "looks like ResNet", "model.name", "model.fresh"):
            assert part in str(caught.value)
        assert "min_matched_share=0" not in str(caught.value)

    def test_names_that_timm_cannot_convert(self, tmp_path):
        state = timm.create_model("swin_tiny_patch4_window7_224", embed_dim=12, depths=(1, 1, 3, 1)).state_dict()
        torch.save(state, tmp_path / "swin.pth")
        shape = {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
        model = build_model("swin_tiny_patch4_window7_224", num_classes=3, image_size=224, **shape)
        with pytest.raises(UserError, match=r"swin\.pth: does not fit SwinTransformer; the file looks like Swin"):
            load(model, tmp_path / "swin.pth")

    def test_share_decides_about_whole_parts_and_can_be_lowered(self, tmp_path):
        model = torch.nn.ModuleDict({"body": torch.nn.Linear(6, 6), "neck": torch.nn.Linear(6, 4)})
        body = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("body")}
        torch.save(body, tmp_path / "half.pth")
        with pytest.raises(UserError, match=r"not in the file: neck\.weight, neck\.bias\n.*90 % asked for"):
            load_weights(model, tmp_path / "half.pth")
        report = load_weights(model, tmp_path / "half.pth", min_matched_share=0.5)
        assert report.missing == ["neck.weight", "neck.bias"]
        assert 0.5 < report.matched_share < 0.7

    def test_parts_of_a_layer_are_not_for_the_share_to_excuse(self, tmp_path):
        model = torch.nn.ModuleDict({"body": torch.nn.Linear(60, 6)})
        torch.save({"body.weight": torch.ones(6, 60)}, tmp_path / "half.pth")
        with pytest.raises(UserError, match=r"means nothing without body\.bias.*model\.fresh=\[body\.bias\]"):
            load_weights(model, tmp_path / "half.pth", min_matched_share=0.0)


class TestReport:
    def test_matching_alone_takes_a_model_on_meta_and_loads_nothing(self, tmp_path, small_vit):
        torch.save(small_vit(image_size=24).state_dict(), tmp_path / "w.pth")
        with torch.device("meta"):
            model = build_model("vit", num_classes=5, image_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2)
        report, state = match_weights(model, read_weights(tmp_path / "w.pth"), adapt=adapt_published)
        assert state["pos_embed"].shape == model.pos_embed.shape
        assert report.resized == ["pos_embed"]
        assert model.pos_embed.is_meta

    def test_table_groups_blocks_and_counts_every_parameter(self, tmp_path, small_vit):
        torch.save(small_vit(num_classes=9).state_dict() | {"mask_token": torch.ones(24)}, tmp_path / "w.pth")
        model = small_vit()
        report = load(model, tmp_path / "w.pth")
        rows = {row[1]: row for row in report.table().rows}
        assert rows["blocks.*.mlp.fc1.bias"][:6] == ["matched", "blocks.*.mlp.fc1.bias", 2, "96", "96", 192]
        assert rows["head.bias"][0] == "reinitialised"
        assert rows["mask_token"] == ["unexpected", "mask_token", 1, "24", "", 24, ""]
        counted = sum(row[5] for row in rows.values() if row[0] != "unexpected")
        assert counted == sum(parameter.numel() for parameter in model.parameters())
        assert len(report.entries) == len(model.state_dict()) + 1


class TestValues:
    def test_values_that_are_not_finite_are_told(self, tmp_path, small_vit):
        state = small_vit().state_dict()
        state["pos_embed"][0, 0, 0] = torch.nan
        torch.save(state, tmp_path / "w.pth")
        report = load(small_vit(), tmp_path / "w.pth")
        assert report.not_finite == ("pos_embed",)
        assert "1 tensors hold values that are not finite, the first of them pos_embed" in report.summary()

    def test_complex_values_are_not_cast(self, tmp_path, small_vit):
        state = small_vit().state_dict()
        torch.save(state | {"pos_embed": state["pos_embed"].to(torch.complex64)}, tmp_path / "w.pth")
        with pytest.raises(UserError, match="do not fit: pos_embed"):
            load(small_vit(), tmp_path / "w.pth")
