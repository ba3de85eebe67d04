"""Finding the weights in files of every layout, and refusing everything else with a remedy."""

from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from vision_train.checkpoints import read_weights
from vision_train.errors import UserError

WEIGHT = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}
OTHER = {name: tensor + 1 for name, tensor in WEIGHT.items()}


def same(state, expected=WEIGHT):
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


class TestFormats:
    def test_safetensors(self, tmp_path):
        save_file(WEIGHT, tmp_path / "w.safetensors")
        weights = read_weights(tmp_path / "w.safetensors")
        assert same(weights.state)
        assert weights.file_format == "safetensors"
        assert weights.source == str(tmp_path / "w.safetensors")

    def test_safetensors_under_another_name(self, tmp_path):
        save_file(WEIGHT, tmp_path / "w.bin")
        assert same(read_weights(tmp_path / "w.bin").state)

    def test_torch(self, tmp_path):
        torch.save(WEIGHT, tmp_path / "w.pth")
        weights = read_weights(tmp_path / "w.pth")
        assert same(weights.state)
        assert weights.file_format == "torch"

    def test_torch_before_1_6(self, tmp_path):
        torch.save({"model": WEIGHT}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
        weights = read_weights(tmp_path / "w.pth")
        assert same(weights.state)
        assert weights.file_format == "torch before 1.6"


class TestContainers:
    @pytest.mark.parametrize(
        ("content", "container"),
        [
            (WEIGHT, ""),
            ({"model": WEIGHT, "optimizer": {"state": {}}, "epoch": 3}, "model"),
            ({"state_dict": WEIGHT, "model": "DropPos_mae_vit_base_patch16", "epoch": 3}, "state_dict"),
            ({"model": OTHER, "model_ema": WEIGHT}, "model_ema"),
            ({"model": WEIGHT, "model_ema": None}, "model"),
            ({"model": OTHER, "ema": {"module": WEIGHT, "updates": 9}}, "ema.module"),
            ({"student": OTHER, "teacher": WEIGHT}, "teacher"),
            ({"model": {"state_dict": WEIGHT}}, "model.state_dict"),
            (WEIGHT | {"epoch": 3}, ""),
            ({"module." + name: tensor for name, tensor in WEIGHT.items()}, ""),
            ({"state_dict": {"module._orig_mod." + name: tensor for name, tensor in WEIGHT.items()}}, "state_dict"),
            ({"model": {"n_averaged": torch.tensor(4)} | {"module." + k: v for k, v in WEIGHT.items()}}, "model"),
            ({"state_dict": {"model.backbone." + name: tensor for name, tensor in WEIGHT.items()}}, "state_dict"),
        ],
    )
    def test_finds_the_weights(self, tmp_path, content, container):
        torch.save(content, tmp_path / "w.pth")
        weights = read_weights(tmp_path / "w.pth")
        assert same(weights.state)
        assert weights.container == container
        assert weights.classes is None

    @pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
    def test_wrappers_of_torch_are_removed_anywhere(self, tmp_path, wrapper):
        state = {f"blocks.{number}.{wrapper}.{name}": each for number in range(2) for name, each in WEIGHT.items()}
        torch.save(state, tmp_path / "w.pth")
        expected = {f"blocks.{number}.{name}": each for number in range(2) for name, each in WEIGHT.items()}
        assert same(read_weights(tmp_path / "w.pth").state, expected)

    @pytest.mark.parametrize(
        "recipe", ["imagenet", {"data": "imagenet", "model": "vit"}, {"model": {"args": "large"}}, {"data": [1]}]
    )
    def test_what_others_call_a_recipe_is_none_of_ours(self, tmp_path, recipe):
        torch.save({"recipe": recipe, "state_dict": WEIGHT}, tmp_path / "w.pth")
        weights = read_weights(tmp_path / "w.pth")
        assert weights.recipe is None
        assert weights.image_size is None

    def test_only_a_prefix_of_every_name_is_removed(self, tmp_path):
        content = {"backbone.weight": torch.ones(1), "head.weight": torch.ones(1)}
        torch.save(content, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth").state, content)

    @pytest.mark.parametrize(
        "content", [{"epoch": 3, "lr": 0.1}, {"step": torch.tensor(3), "a": 1, "b": 2}, [1, 2], {}]
    )
    def test_file_without_weights(self, tmp_path, content):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth: holds no weights"):
            read_weights(tmp_path / "w.pth")


class TestRuns:
    @pytest.fixture
    def run(self, tmp_path):
        """A run directory as training leaves it: averaged weights beside trained ones."""
        folder = tmp_path / "runs" / "digits" / "0"
        (folder / "checkpoints").mkdir(parents=True)
        checkpoint = {
            "pytorch-lightning_version": "2.6.6",
            "state_dict": {"network." + name: tensor for name, tensor in OTHER.items()} | {"seen": torch.ones(3)},
            "averaged": WEIGHT,
            "classes": ["cat", "dog"],
            "recipe": {"task": "classification", "model": {"name": "vit"}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(9)}}}],
        }
        torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")
        return folder

    def test_stands_for_its_best_averaged_weights(self, run):
        weights = read_weights(run)
        assert same(weights.state)
        assert weights.classes == ["cat", "dog"]
        assert weights.source == f"averaged weights of {run / 'checkpoints' / 'best.ckpt'}"

    def test_checkpoint_without_average_gives_the_network_alone(self, run):
        file = run / "checkpoints" / "best.ckpt"
        content = torch.load(file, weights_only=True)
        del content["averaged"]
        torch.save(content, file)
        weights = read_weights(file)
        assert same(weights.state, OTHER)
        assert weights.source == f"`state_dict` of {file}"

    def test_run_without_best_weights_names_what_there_is(self, run):
        (run / "checkpoints" / "best.ckpt").rename(run / "checkpoints" / "last.ckpt")
        with pytest.raises(UserError, match=r"no finished run; name one of its files: .*last\.ckpt"):
            read_weights(run)

    def test_directory_of_something_else(self, tmp_path):
        with pytest.raises(UserError, match=r"is a directory without checkpoints/best\.ckpt.*name a weights file"):
            read_weights(tmp_path)


class TestCraftedFiles:
    def test_a_container_that_holds_itself(self, tmp_path):
        content: dict = {}
        content["model"] = content["state_dict"] = content
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match="holds no weights"):
            read_weights(tmp_path / "w.pth")

    def test_attributes_that_hide_the_methods_of_a_dict(self, tmp_path):
        content = OrderedDict(WEIGHT)
        content.__dict__["get"] = "not a method"
        torch.save(content, tmp_path / "w.pth")
        assert same(read_weights(tmp_path / "w.pth").state)

    @pytest.mark.parametrize(
        "weight", [torch.eye(2).to_sparse(), torch.empty(2, 2, device="meta")], ids=["sparse", "meta"]
    )
    def test_tensors_that_hold_no_plain_memory(self, tmp_path, weight):
        torch.save(WEIGHT | {"odd": weight}, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth: odd is a .* tensor"):
            read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("averaged", [True, False])
def test_our_own_weights_keep_names_that_look_wrapped(tmp_path, averaged):
    """A network whose every name begins with `backbone.` must find its own weights again."""
    names = {"backbone." + name: tensor for name, tensor in WEIGHT.items()}
    content = {"pytorch-lightning_version": "2", "state_dict": {"network." + k: v for k, v in names.items()}}
    torch.save(content | ({"averaged": names} if averaged else {}), tmp_path / "best.ckpt")
    assert same(read_weights(tmp_path / "best.ckpt").state, names)
