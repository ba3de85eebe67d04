"""Building timm models, and bringing published weights to their shape."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch.nn.functional import interpolate

from models.families import guess_family
from models.positions import fit_positions, made_for
from models.vit import adapt_published, build_model, head_names, scale_outputs

GOLDEN = Path(__file__).parents[1] / "golden" / "mixpro"
SMALL = {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}


def small_vit(image_size=16, num_classes=5, **args):
    return build_model("vit", num_classes=num_classes, image_size=image_size, **SMALL | args)


class TestBuildModel:
    def test_vit_is_shaped_by_its_arguments(self):
        model = small_vit()
        assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 5)
        assert len(model.blocks) == 2

    def test_timm_name_with_arguments_at_another_size(self):
        with torch.device("meta"):
            model = build_model("vit_tiny_patch16_224", num_classes=7, image_size=96, drop_path_rate=0.1)
        assert model.pos_embed.shape == (1, 37, 192)
        assert model.pos_embed.is_meta

    @pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"])
    def test_other_families_build_on_meta(self, name):
        with torch.device("meta"):
            model = build_model(name, num_classes=3, image_size=224)
        assert all(parameter.is_meta for parameter in model.parameters())

    @pytest.mark.parametrize(
        ("name", "args", "message"),
        [
            ("vit_smal_patch16_224", {}, "near to it: .*vit_small_patch16_224"),
            ("no-such-network", {}, "`vit` or a timm model"),
            ("hf-hub:someone/model", {}, "no model is called"),
            ("vit_small_patch16_224.augreg_in1k", {}, "write 'vit_small_patch16_224'"),
            ("vit", {"depht": 3}, "'vit' takes no argument 'depht'; did you mean 'depth'"),
            ("vit_tiny_patch16_224", {"drop_path": 0.1}, "no argument 'drop_path'; did you mean 'drop_path_rate'"),
            ("resnet18", {"depth": 3}, "'resnet18' takes no argument 'depth'"),
            ("vit", {"num_heads": 5}, "cannot be built with .*num_heads=5.*divisible"),
            ("vit", {"depth": "four"}, "cannot be built with .*depth='four'"),
            ("vit_tiny_patch16_224", {"pretrained": True}, "'pretrained' would download weights"),
            ("vit", {"img_size": 32}, "'img_size' is the image size of the data"),
        ],
    )
    def test_refuses_what_it_cannot_build(self, name, args, message):
        with torch.device("meta"), pytest.raises(ValueError, match=message):
            build_model(name, num_classes=3, image_size=224, **args)

    def test_images_may_be_rectangles(self):
        model = small_vit(image_size=(8, 24))
        assert model.patch_embed.grid_size == (2, 6)
        assert model(torch.zeros(1, 3, 8, 24)).shape == (1, 5)
        with torch.device("meta"):
            swin = build_model("swin_tiny_patch4_window7_224", num_classes=3, image_size=(224, 448))
            assert build_model("resnet18", num_classes=3, image_size=(64, 96)) is not None
        assert swin.patch_embed.img_size == (224, 448)
        for size, says in (((16, 30), "a width of 30 is no multiple, 28 and 32"), ((3, 16), "a height of 3")):
            with pytest.raises(ValueError, match=says):
                small_vit(image_size=size)

    @pytest.mark.parametrize(("size", "near"), [(230, "224 and 240"), (10, "16")])
    def test_patches_must_tile_the_image(self, size, near):
        with torch.device("meta"), pytest.raises(ValueError, match=f"patches of 16 pixels; {size} .* {near} fit"):
            build_model("vit_tiny_patch16_224", num_classes=3, image_size=size)


class TestHeadNames:
    @pytest.mark.parametrize(
        ("name", "heads"),
        [
            ("deit_tiny_distilled_patch16_224", {"head", "head_dist"}),
            ("swin_tiny_patch4_window7_224", {"head.fc"}),
            ("resnet18", {"fc"}),
        ],
    )
    def test_finds_the_classifiers(self, name, heads):
        with torch.device("meta"):
            model = build_model(name, num_classes=3, image_size=224)
        assert set(head_names(model)) == heads

    def test_counts_the_norm_of_average_pooling(self):
        assert set(head_names(small_vit(global_pool="avg"))) == {"head", "fc_norm"}

    def test_module_without_classifier_has_none(self):
        assert head_names(torch.nn.Linear(2, 2)) == ()


class TestFitPositions:
    @pytest.mark.parametrize("size", [3, 6])
    def test_is_bicubic_without_antialias_beside_the_kept_prefix(self, size):
        table = torch.randn(1, 2 + 16, 8)
        resized = fit_positions(table, (size, size), prefix=2, before=(4, 4))
        grid = table[:, 2:].reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
        expected = interpolate(grid, size=(size, size), mode="bicubic", align_corners=False)
        assert torch.equal(resized[:, :2], table[:, :2])
        assert torch.allclose(resized[:, 2:], expected.permute(0, 2, 3, 1).reshape(1, -1, 8), atol=1e-6)

    @pytest.mark.parametrize("grid", [(4, 4), (6, 3), (8, 2)])
    def test_a_table_of_a_known_rectangle_is_resized(self, grid):
        table = torch.randn(1, 1 + 16, 8)
        resized = fit_positions(table, grid, prefix=1, before=(2, 8))
        cells = table[:, 1:].reshape(1, 2, 8, 8).permute(0, 3, 1, 2)
        expected = interpolate(cells, size=grid, mode="bicubic", align_corners=False)
        assert torch.allclose(resized[:, 1:], expected.permute(0, 2, 3, 1).reshape(1, -1, 8), atol=1e-6)
        assert fit_positions(table, (2, 8), prefix=1, before=(2, 8)) is table


class TestNormEps:
    def test_is_set_on_every_layer_norm(self):
        norms = [module for module in small_vit(norm_eps=1e-12).modules() if isinstance(module, torch.nn.LayerNorm)]
        assert {norm.eps for norm in norms} == {1e-12}

    @pytest.mark.parametrize("eps", [0, -1.0, "1"])
    def test_must_be_positive(self, eps):
        with pytest.raises(ValueError, match="norm_eps"):
            small_vit(norm_eps=eps)


class TestAdaptPublished:
    def test_own_weights_pass_through_untouched(self):
        model = small_vit()
        adapted = adapt_published(model.state_dict(), model)
        assert all(torch.equal(adapted[name], weight) for name, weight in model.state_dict().items())

    def test_positions_are_read_by_the_size_of_the_images_they_are_of(self):
        source, model = small_vit(image_size=(8, 32)), small_vit(image_size=16)
        state = source.state_dict()
        with made_for(model, (8, 32)):
            adapted = adapt_published(state, model)["pos_embed"]
        assert adapted.shape == state["pos_embed"].shape
        assert not torch.equal(adapted, state["pos_embed"])
        with made_for(source, (8, 32)):
            assert torch.equal(adapt_published(state, source)["pos_embed"], state["pos_embed"])

    def test_does_not_change_what_it_is_given(self):
        state = small_vit(image_size=24).state_dict()
        before = {name: (id(weight), weight.clone()) for name, weight in state.items()}
        adapt_published(state, small_vit())
        assert {name: id(weight) for name, weight in state.items()} == {name: kept[0] for name, kept in before.items()}
        assert all(torch.equal(state[name], kept[1]) for name, kept in before.items())

    def test_distilled_file_loses_the_row_of_its_second_token(self):
        model = small_vit()
        state = model.state_dict()
        positions = torch.randn(1, 18, 24)
        state |= {"pos_embed": positions, "dist_token": torch.randn(1, 1, 24)}
        adapted = adapt_published(state, model)["pos_embed"]
        assert torch.equal(adapted, torch.cat([positions[:, :1], positions[:, 2:]], dim=1))

    def test_plain_file_starts_the_second_token_where_the_class_token_stands(self):
        with torch.device("meta"):
            model = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, num_classes=5)
        positions = torch.randn(1, 5, 192)
        adapted = adapt_published({"pos_embed": positions, "cls_token": torch.zeros(1, 1, 192)}, model)["pos_embed"]
        assert torch.equal(adapted, torch.cat([positions[:, :1], positions], dim=1))

    def test_layer_scales_of_deit_three_are_renamed(self):
        model = small_vit(init_values=1e-4)
        state = {name.replace("ls1.gamma", "gamma_1"): weight for name, weight in model.state_dict().items()}
        assert model.state_dict().keys() <= adapt_published(state, model).keys()

    def test_weights_of_another_network_are_refused_by_name(self):
        model = build_model("swin_tiny_patch4_window7_224", num_classes=3, image_size=224)
        with pytest.raises(ValueError, match="conversion for SwinTransformer failed"):
            adapt_published({"nowhere.relative_position_bias_table": torch.zeros(169, 2)}, model)


class TestGuessFamily:
    @pytest.mark.parametrize(
        ("name", "family"),
        [
            ("vit_tiny_patch16_224", "ViT"),
            ("deit_tiny_distilled_patch16_224", "distilled ViT (DeiT)"),
            ("swin_tiny_patch4_window7_224", "Swin"),
            ("convnext_atto", "ConvNeXt"),
            ("resnet18", "ResNet"),
            ("efficientnet_b0", "EfficientNet or MobileNet"),
            ("vgg11", "VGG or AlexNet"),
        ],
    )
    def test_recognises_timm_networks(self, name, family):
        with torch.device("meta"):
            assert guess_family(timm.create_model(name).state_dict()) == family

    @pytest.mark.parametrize(
        ("name", "family"),
        [
            ("transformer.decoder.layers.0.self_attn.in_proj_weight", "DETR"),
            ("bert.encoder.layer.0.attention.self.query.weight", "BERT"),
            ("vit.encoder.layer.0.attention.attention.query.weight", "ViT in the Hugging Face layout"),
            ("decoder_blocks.0.norm1.weight", "MAE pre-training"),
            ("counter", None),
        ],
    )
    def test_recognises_others_by_typical_names(self, name, family):
        assert guess_family([name]) == family

    def test_official_files(self):
        for file, family in {"vit_tiny": "ViT", "swin_tiny": "Swin"}.items():
            names = [name.removeprefix("sd.") for name in load_file(GOLDEN / f"{file}.safetensors")]
            assert guess_family(names) == family


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "deit_tiny_distilled_patch16_224"])
def test_outputs_are_scaled_and_shifted_by_the_classifier_alone(name):
    size = 224 if "224" in name else 160
    model, images = build_model(name, num_classes=3, image_size=(size, size)).eval(), torch.rand(2, 3, size, size)
    scale, shift = torch.tensor([2.0, 0.5, 10.0]), torch.tensor([1.0, -4.0, 100.0])
    with torch.inference_mode():
        expected = model(images) * scale + shift
    scale_outputs(model, scale, shift)
    with torch.inference_mode():
        assert torch.allclose(model(images), expected, rtol=1e-4, atol=1e-4)


def test_a_last_layer_without_bias_is_refused():
    model = build_model("test_resnet", num_classes=3, image_size=(160, 160))
    model.fc.bias = None
    with pytest.raises(ValueError, match="last layer"):
        scale_outputs(model, torch.ones(3), torch.zeros(3))
