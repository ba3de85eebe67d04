"""Another network than the file holds is refused by name, however many of its parameters fit."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from models.vit import adapt_published, head_names
from vision_train.checkpoints import load_weights, match_weights, read_weights
from vision_train.errors import UserError


def load(model, path, **settings):
    return load_weights(model, path, adapt=adapt_published, heads=head_names(model), **settings)


def saved(tmp_path, state):
    torch.save({"model": dict(state)}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


class TestEssentialTensors:
    @pytest.mark.parametrize(
        ("args", "absent"),
        [
            ({}, "cls_token"),
            ({}, "pos_embed"),
            ({}, "patch_embed.proj.bias"),
            ({}, "blocks.1.norm2.weight"),
            ({}, "norm.bias"),
            ({"reg_tokens": 2}, "reg_token"),
            ({"init_values": 1e-5}, "blocks.0.ls1.gamma"),
        ],
    )
    def test_an_absent_one_is_named_unless_the_recipe_lets_it_be_fresh(self, tmp_path, small_vit, args, absent):
        state = small_vit(**args).state_dict()
        del state[absent]
        path, model = saved(tmp_path, state), small_vit(**args)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(UserError, match=rf"w\.pth.*\n.*\n.*model\.checkpoint: .*{absent}.*model\.fresh=\["):
            load(model, path, min_matched_share=0.0)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        fresh = [absent] if absent != "norm.bias" else [absent, "head.weight", "head.bias"]
        assert load(model, path, fresh=fresh).fresh == [absent]

    def test_an_unfit_one_is_named(self, tmp_path, small_vit):
        path = saved(tmp_path, small_vit(reg_tokens=4, no_embed_class=True).state_dict())
        with pytest.raises(UserError, match=r"reg_token \(1x4x24 -> 1x2x24\)"):
            load(small_vit(reg_tokens=2, no_embed_class=True), path)

    def test_matching_alone_says_it_in_the_verdict(self, tmp_path, small_vit):
        state = small_vit().state_dict()
        del state["cls_token"]
        model = small_vit()
        report, _ = match_weights(model, read_weights(saved(tmp_path, state)), adapt=adapt_published)
        assert report.matched_share > 0.9
        assert not report.fits(0.9)
        assert "Does not fit" in report.verdict(0.9)
        assert "cls_token" in report.verdict(0.9)

    @pytest.mark.parametrize("absent", ["blocks.5.mlp.fc2.weight", "blocks.5.", "attn.proj.weight", "attn.qkv.bias"])
    def test_matrices_in_the_middle_are(self, tmp_path, small_vit, absent):
        state = {name: tensor for name, tensor in small_vit(depth=12).state_dict().items() if absent not in name}
        path = saved(tmp_path, state)
        with pytest.raises(UserError, match=rf"nothing without .*{absent}.*model\.fresh=\[blocks\.\*"):
            load(small_vit(depth=12), path, min_matched_share=0.5)
        assert load(small_vit(depth=12), path, fresh=[n for n in small_vit(depth=12).state_dict() if absent in n])

    @pytest.mark.parametrize("inside", ["attn.qkv.down.weight", "adapter.down.weight"])
    def test_a_part_inside_a_block_that_the_model_has_no_place_for(self, tmp_path, small_vit, inside):
        path = saved(tmp_path, small_vit().state_dict() | {f"blocks.1.{inside}": torch.ones(2, 24)})
        with pytest.raises(UserError, match=rf"blocks\.1\.{inside}, for which VisionTransformer has no place"):
            load(small_vit(), path)

    @pytest.mark.parametrize(
        ("args", "named"),
        [
            ({"reg_tokens": 2, "no_embed_class": True}, "reg_token"),
            ({"init_values": 1e-5}, r"blocks\.0\.ls1\.gamma"),
            ({"pre_norm": True}, r"norm_pre\.weight"),
            ({"qk_norm": True}, r"blocks\.0\.attn\.q_norm\.weight"),
        ],
    )
    def test_one_that_the_model_has_no_place_for(self, tmp_path, small_vit, args, named):
        path = saved(tmp_path, small_vit(**args).state_dict())
        plain = {"no_embed_class": True} if "no_embed_class" in args else {}
        with pytest.raises(UserError, match=rf"model\.checkpoint: The network of the file has .*{named}"):
            load(small_vit(**plain), path)


MEAN = {"global_pool": "avg", "fc_norm": True}


class TestKeptHeads:
    def test_class_token_instead_of_the_mean(self, tmp_path, small_vit):
        path = saved(tmp_path, small_vit(**MEAN).state_dict())
        with pytest.raises(UserError, match=r"head \(head\) would be kept.*norm before it.*mean of the patches"):
            load(small_vit(), path)
        assert (
            load(small_vit(), path, fresh=["norm.weight", "norm.bias", "head.weight", "head.bias"]).matched_share == 1
        )
        assert load(small_vit(**MEAN), path).matched

    def test_mean_instead_of_the_class_token(self, tmp_path, small_vit):
        path = saved(tmp_path, small_vit().state_dict())
        with pytest.raises(UserError, match=r"head \(head\) would be kept.*fc_norm.*model\.fresh=\[head\.\*\]"):
            load(small_vit(**MEAN), path)
        report = load(small_vit(**MEAN), path, fresh=["head.weight", "head.bias"])
        assert report.reinitialised == ["fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"]

    def test_another_number_of_classes_starts_fresh_by_itself(self, tmp_path, small_vit):
        path = saved(tmp_path, small_vit(num_classes=7).state_dict())
        assert load(small_vit(**MEAN), path).matched_share == 1

    def test_more_blocks_than_the_file(self, tmp_path, small_vit):
        path = saved(tmp_path, small_vit(depth=12).state_dict())
        with pytest.raises(UserError, match=r"means nothing without blocks\.12\.norm1\.weight"):
            load(small_vit(depth=13), path, fresh=["head.weight", "head.bias"])

    def test_fewer_blocks_in_the_middle(self, tmp_path):
        torch.save(timm.create_model("resnet34", num_classes=3).state_dict(), tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"more blocks, layer1\.2, .*in the middle of ResNet.*model\.name"):
            load(timm.create_model("resnet18", num_classes=5), tmp_path / "w.pth")

    def test_fewer_blocks_under_official_names(self, tmp_path, published):
        args = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 2, "num_classes": 0}
        deep, model = (timm.create_model("vit_base_patch16_clip_224", depth=n, **args) for n in (3, 2))
        path = saved(tmp_path, published.openai_clip(deep))
        assert "deeper: its blocks.2" in load(model, path).summary()

    def test_fewer_blocks(self, tmp_path, small_vit):
        path = saved(tmp_path, small_vit(depth=3).state_dict())
        with pytest.raises(UserError, match=r"would be kept.*blocks before it \(blocks\.2\)"):
            load(small_vit(), path)
        assert "deeper" in load(small_vit(), path, fresh=["head.weight", "head.bias"]).summary()


class TestWhatAConfigStates:
    @pytest.fixture
    def folder(self, tmp_path, small_vit):
        def write(**config):
            save_file({k: v.contiguous() for k, v in small_vit().state_dict().items()}, tmp_path / "model.safetensors")
            (tmp_path / "config.json").write_text(json.dumps(config))
            return tmp_path

        return write

    def test_another_number_of_attention_heads(self, folder, small_vit):
        with pytest.raises(UserError, match=r"config\.json.*3 heads.*this model has 2"):
            load(small_vit(), folder(num_attention_heads=3))

    def test_another_activation(self, folder, small_vit):
        with pytest.raises(UserError, match=r"config\.json.*quick_gelu.*model\.args=\{act_layer: quick_gelu\}"):
            load(small_vit(), folder(hidden_act="quick_gelu"))

    def test_small_differences_are_told(self, folder, small_vit):
        said = load(small_vit(), folder(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-12)).summary()
        assert "gelu_tanh" in said
        assert "norm_eps: 1e-12" in said

    @pytest.mark.parametrize("name", ["model.safetensors", "vit.safetensors"])
    def test_the_name_of_the_only_file_does_not_matter(self, folder, small_vit, name):
        path = folder(num_attention_heads=3)
        (path / "model.safetensors").rename(path / name)
        with pytest.raises(UserError, match=r"config\.json.*3 heads"):
            load(small_vit(), path / name)

    def test_what_transformers_means_by_stating_nothing(self, folder, small_vit):
        path = folder(model_type="clip", vision_config={"num_attention_heads": 2})
        with pytest.raises(UserError, match=r"config\.json.*quick_gelu"):
            load(small_vit(), path)
        load(small_vit(act_layer="quick_gelu"), path)

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"quick_gelu": True, "vision_cfg": {"width": 24, "head_width": 12}}, r"act_layer: quick_gelu"),
            ({"vision_cfg": {"width": 24, "head_width": 8}}, r"3 heads"),
            ({"vision_cfg": {"timm_model_name": "vit_base_patch16_siglip_224"}}, r"12 heads"),
        ],
    )
    def test_open_clip(self, folder, small_vit, config, said):
        path = folder()
        (path / "config.json").rename(path / "open_clip_config.json")
        (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        with pytest.raises(UserError, match=rf"open_clip_config\.json.*{said}"):
            load(small_vit(), path)

    def test_the_network_that_timm_names(self, folder, small_vit):
        args = {"embed_dim": 24, "depth": 2, "num_heads": 2, "act_layer": "relu"}
        with pytest.raises(UserError, match=r"config\.json.*act_layer: relu"):
            load(small_vit(), folder(architecture="vit_tiny_patch16_224", model_args=args))


class TestRectangles:
    def test_table_of_the_models_own_grid(self, tmp_path):
        sizes = {"img_size": (16, 24), "num_classes": 5, "embed_dim": 24, "depth": 1, "num_heads": 2, "patch_size": 4}
        source, model = (timm.create_model("vit_tiny_patch16_224", **sizes) for _ in range(2))
        load(model, saved(tmp_path, source.state_dict()))
        assert torch.equal(model.pos_embed, source.pos_embed)

    def test_table_of_a_grid_that_nobody_states(self, tmp_path, small_vit):
        sizes = {"img_size": (16, 24), "num_classes": 5, "embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 4}
        path = saved(tmp_path, timm.create_model("vit_tiny_patch16_224", **sizes).state_dict())
        with pytest.raises(UserError, match=r"pos_embed has 24 places, which form no square"):
            load(small_vit(), path)

    @pytest.mark.parametrize("stated", [True, False])
    def test_as_many_places_in_another_shape(self, tmp_path, stated):
        """A table of 4 x 4 places is none of 2 x 8; one that an earlier run made for 2 x 8 is taken as it is."""
        sizes = {"num_classes": 5, "embed_dim": 24, "depth": 1, "num_heads": 2, "patch_size": 4}
        source = timm.create_model("vit_tiny_patch16_224", img_size=(8, 32) if stated else 16, **sizes)
        content = {"model": source.state_dict()}
        if stated:
            content["recipe"] = {"data": {"image_size": [8, 32]}}
        torch.save(content, tmp_path / "w.pth")
        model = timm.create_model("vit_tiny_patch16_224", img_size=(8, 32), **sizes)
        load(model, tmp_path / "w.pth")
        assert torch.equal(model.pos_embed, source.pos_embed) is stated
