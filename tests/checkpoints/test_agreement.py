"""What is said of a file's network is compared with the model where no tensor shows the difference."""

import json

import pytest
import torch
from safetensors.torch import save_file

from models.droppos.decoders import DecoderShape
from models.droppos.network import MaskedPositionNetwork
from models.droppos.published import adapt_published as adapt_to_droppos
from models.settings import DEFAULTS
from models.vit import adapt_published, build_model, head_names
from vision_train.checkpoints import load_weights
from vision_train.errors import UserError

SMALL = {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}


def load(model, path):
    return load_weights(model, path, adapt=adapt_published, heads=head_names(model))


def test_a_tower_of_clip_that_nobody_describes(tmp_path, small_vit):
    for pre_norm in (True, False):
        torch.save(small_vit(pre_norm=pre_norm).state_dict(), tmp_path / "w.pth")
        said = load(small_vit(pre_norm=pre_norm), tmp_path / "w.pth").summary()
        assert ("act_layer: quick_gelu" in said) is pre_norm


def test_defaults_are_those_of_transformers():
    known = pytest.importorskip("transformers").CONFIG_MAPPING
    for kind in DEFAULTS.keys() & known.keys():  # the oldest version that is allowed knows less
        config, values = known[kind](), DEFAULTS[kind]
        config = getattr(config, "vision_config", config)
        stated = {key: getattr(config, key) for key in values}
        assert {key: [*value] if isinstance(value, tuple) else value for key, value in stated.items()} == values, kind


class TestEarlierRuns:
    @pytest.fixture
    def run(self, tmp_path):
        """Save a network as a run of ours does, and return another one beside the file."""

        def write(name, image_size, ours, theirs):
            source = build_model(name, num_classes=5, image_size=image_size, **theirs)
            recipe = {"model": {"name": name, "args": theirs}, "data": {"image_size": image_size}}
            torch.save({"model": source.state_dict(), "recipe": recipe}, tmp_path / "w.pth")
            return build_model(name, num_classes=5, image_size=image_size, **ours), tmp_path / "w.pth"

        return write

    @pytest.mark.parametrize(
        ("theirs", "ours", "said"),
        [
            ({}, {"num_heads": 3}, r"2 heads.*this model has 3"),
            ({}, {"act_layer": "relu"}, r"act_layer: gelu"),
            ({}, {"norm_eps": 1e-2}, r"norm_eps: 1e-06"),
            (
                {"global_pool": "avg", "fc_norm": False},
                {},
                r"pools by the mean of the patches, this one by the class token",
            ),
        ],
    )
    def test_another_transformer(self, run, theirs, ours, said):
        model, path = run("vit", 16, SMALL | ours, SMALL | theirs)
        with pytest.raises(UserError, match=rf"w\.pth.*(\n.*)*{said}"):
            load(model, path)
        model, path = run("vit", 16, SMALL | theirs, SMALL | theirs)
        assert not load(model, path).notes

    @pytest.mark.parametrize(
        ("name", "theirs", "ours", "said"),
        [
            ("vit_small_patch16_dinov3_qkvb", SMALL, SMALL | {"global_pool": "token"}, "mean of the patches"),
            ("resnet10t", {"global_pool": "max"}, {}, "pools by max, this one by avg"),
            ("resnet10t", {}, {"act_layer": "silu"}, "act_layer: relu"),
            ("convnext_atto", {"global_pool": "max"}, {}, "pools by max, this one by avg"),
        ],
    )
    def test_defaults_of_its_model_count(self, run, name, theirs, ours, said):
        model, path = run(name, 32, ours, theirs)
        with pytest.raises(UserError, match=said):
            load(model, path)

    def test_a_network_that_cannot_be_built_any_more_is_told(self, run):
        model, path = run("vit", 16, SMALL, SMALL)
        torch.save(torch.load(path) | {"recipe": {"model": {"name": "vit", "args": {"gone": 1}}}}, path)
        assert "cannot be built" in load(model, path).summary()

    def test_random_numbers_are_drawn_as_without_it(self, run):
        model, path = run("vit", 16, SMALL, SMALL | {"drop_path_rate": 0.123})
        before = torch.get_rng_state()
        load(model, path)
        assert torch.equal(before, torch.get_rng_state())


class TestSwinV2:
    SHAPE = {"patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}  # noqa: RUF012

    def build(self, image_size=32, **args):
        name = "swinv2_tiny_window8_256"
        return build_model(name, num_classes=5, image_size=image_size, **self.SHAPE | args)

    def beside(self, tmp_path, model, **config):
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "model.safetensors")
        config |= {key: value for key, value in self.SHAPE.items() if key != "embed_dim"}
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "swinv2", "image_size": 32, **config}))
        return tmp_path

    def test_windows_that_positions_are_relative_to(self, tmp_path):
        path = self.beside(tmp_path, self.build(), pretrained_window_sizes=[8, 8])
        with pytest.raises(UserError, match=r"config\.json.*windows of 8.*windows of 4.*pretrained_window_sizes"):
            load(self.build(), path)
        assert not load(self.build(pretrained_window_sizes=[8, 8]), path).notes

    def test_larger_windows_relative_to_those_of_the_file(self, tmp_path):
        path = self.beside(tmp_path, self.build())
        report = load(self.build(window_size=8, pretrained_window_sizes=[4, 4]), path)
        assert any("windows of 4 patches" in note and "window_size" in note for note in report.notes)


def test_heads_of_decoders_count_where_decoders_are_kept(tmp_path):
    def network(heads):
        encoder = build_model("vit", num_classes=0, image_size=16, global_pool="token", **SMALL)
        return MaskedPositionNetwork(encoder, decoder=DecoderShape(16, 1, heads))

    recipe = {"model": {"name": "vit", "args": SMALL}, "method": {"decoder": {"heads": 2}}}
    torch.save({"model": network(2).state_dict(), "recipe": recipe}, tmp_path / "w.pth")
    other = network(4)
    with pytest.raises(UserError, match=r"method\.decoder\.heads=2"):
        load_weights(other, tmp_path / "w.pth", adapt=adapt_to_droppos, heads=("decoder",))
    decoders = [name for name in other.state_dict() if name.startswith("decoder.")]
    load_weights(other, tmp_path / "w.pth", adapt=adapt_to_droppos, heads=("decoder",), fresh=decoders)
    load_weights(network(2), tmp_path / "w.pth", adapt=adapt_to_droppos, heads=("decoder",))
