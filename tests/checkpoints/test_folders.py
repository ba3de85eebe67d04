"""Folders as model hubs keep them, sharded weights, and shards alone."""

import json

import pytest
import torch
from safetensors.torch import save_file

from vision_train.checkpoints import read_weights, weights_files
from vision_train.errors import UserError

STATE = {"a.weight": torch.arange(4.0), "b.weight": torch.ones(2)}


@pytest.fixture
def sharded(tmp_path):
    places = {}
    for number, (name, tensor) in enumerate(STATE.items(), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensor}, tmp_path / file)
        places[name] = file
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return tmp_path


class TestShards:
    @pytest.mark.parametrize("name", ["", "model.safetensors.index.json"])
    def test_folder_and_index_give_all_shards(self, sharded, name):
        weights = read_weights(sharded / name)
        assert weights.state.keys() == STATE.keys()
        assert all(torch.equal(weights.state[each], STATE[each]) for each in STATE)
        assert weights.file_format == "safetensors in 2 shards"
        assert weights_files(sharded).folder == sharded

    def test_torch_shards(self, tmp_path):
        torch.save(STATE, tmp_path / "pytorch_model-00001-of-00001.bin")
        places = dict.fromkeys(STATE, "pytorch_model-00001-of-00001.bin")
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
        assert read_weights(tmp_path).state.keys() == STATE.keys()

    def test_one_shard_alone_is_refused(self, sharded):
        with pytest.raises(UserError, match=r"shard 1 of 2.*name the folder"):
            read_weights(sharded / "model-00001-of-00002.safetensors")

    def test_missing_shard(self, sharded):
        (sharded / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(UserError, match=r"1 of its 2 files.*model-00002-of-00002\.safetensors"):
            read_weights(sharded)

    def test_shard_without_a_tensor_of_the_index(self, sharded):
        save_file({"other": torch.ones(1)}, sharded / "model-00002-of-00002.safetensors")
        with pytest.raises(UserError, match=r"lacks 1 tensors.*b\.weight"):
            read_weights(sharded)

    def test_shards_without_an_index(self, sharded):
        (sharded / "model.safetensors.index.json").unlink()
        with pytest.raises(UserError, match=r"without their \.index\.json"):
            read_weights(sharded)

    @pytest.mark.parametrize("place", ["../w.safetensors", "/w.safetensors", "", 3])
    def test_index_that_leads_elsewhere(self, tmp_path, place):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
        with pytest.raises(UserError, match="no name of a file beside it"):
            read_weights(tmp_path)

    @pytest.mark.parametrize("text", ["{", "[]", '{"metadata": {}}'])
    def test_broken_index(self, tmp_path, text):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(UserError, match=r"model\.safetensors\.index\.json: .*(JSON|weight_map)"):
            read_weights(tmp_path)


class TestFolders:
    @pytest.mark.parametrize("name", ["model.safetensors", "anything.safetensors"])
    def test_the_only_weights_of_a_folder(self, tmp_path, name):
        save_file(STATE, tmp_path / name)
        (tmp_path / "config.json").write_text('{"num_attention_heads": 3}')
        weights = read_weights(tmp_path)
        assert weights.path == tmp_path / name
        assert weights.beside == {"config.json": {"num_attention_heads": 3}}

    @pytest.mark.parametrize(("name", "belongs"), [("model.safetensors", True), ("vit.safetensors", False)])
    def test_a_configuration_belongs_to_one_of_several_files_by_its_name(self, tmp_path, name, belongs):
        save_file(STATE, tmp_path / name)
        save_file(STATE, tmp_path / "other.safetensors")
        (tmp_path / "config.json").write_text('{"num_attention_heads": 3}')
        assert bool(read_weights(tmp_path / name).beside) is belongs

    def test_safetensors_before_pickles_of_the_same_weights(self, tmp_path):
        save_file(STATE, tmp_path / "model.safetensors")
        torch.save({"other": torch.ones(1)}, tmp_path / "pytorch_model.bin")
        assert read_weights(tmp_path).file_format == "safetensors"

    def test_several_files_are_listed(self, tmp_path):
        for name in ("a.pth", "b.pth"):
            torch.save(STATE, tmp_path / name)
        with pytest.raises(UserError, match=r"name one of its files: .*a\.pth, .*b\.pth"):
            read_weights(tmp_path)

    @pytest.mark.parametrize(
        ("name", "what"),
        [("tf_model.h5", "TensorFlow"), ("flax_model.msgpack", "JAX"), ("__0_0.distcp", "distributed")],
    )
    def test_weights_of_other_libraries(self, tmp_path, name, what):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match=what):
            read_weights(tmp_path)
