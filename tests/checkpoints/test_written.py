"""Weights written alone: what is read back, whatever names and shared memory they have."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vision_train.checkpoints import Weights, read_weights, write_weights
from vision_train.errors import UserError


def weights(state, **facts) -> Weights:
    return Weights(state, Path("best.ckpt"), "torch", "averaged", facts=facts)


def test_names_that_look_like_wrappers_and_tensors_of_shared_memory_come_back(tmp_path):
    shared = torch.rand(4, 3)
    state = {"model.a": shared, "model.b": shared[:2], "model.c": torch.rand(3, 4).t()}
    write_weights(tmp_path / "weights.safetensors", weights(state, classes=["x", "y"], step=7))
    read = read_weights(tmp_path / "weights.safetensors")
    assert read.state.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in read.state.items())
    assert read.classes == ["x", "y"]
    assert "step" not in read.facts


def test_a_student_beside_a_teacher_is_one_network_where_we_wrote_it(tmp_path):
    state = {f"{role}.layer.{name}": torch.rand(2, 2) for role in ("student", "teacher") for name in ("a", "b")}
    write_weights(tmp_path / "ours.safetensors", weights(state, classes=[]))
    assert read_weights(tmp_path / "ours.safetensors").state.keys() == state.keys()
    save_file(state, tmp_path / "theirs.safetensors")
    assert read_weights(tmp_path / "theirs.safetensors").state.keys() != state.keys()


def test_a_lone_tensor_is_a_network_where_we_wrote_it(tmp_path):
    write_weights(tmp_path / "w.safetensors", weights({"w": torch.ones(2)}, classes=["a"], recipe={"model": {}}))
    assert read_weights(tmp_path / "w.safetensors").state.keys() == {"w"}


@pytest.mark.parametrize("told", ["{", json.dumps([1])])
def test_damaged_metadata_are_no_traceback(tmp_path, told):
    file = tmp_path / "w.safetensors"
    save_file({"w": torch.ones(2), "b": torch.ones(2)}, file, {"vision_train": told})
    if told == "{":
        with pytest.raises(UserError, match=r"w\.safetensors: .*damaged"):
            read_weights(file)
    else:
        assert read_weights(file).state.keys() == {"w", "b"}
