"""Opening files safely: harmless containers load, code does not run, and damage is named."""

import argparse
import io
import pickle
import sys
import tarfile
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from vision_train.checkpoints.formats import open_weights
from vision_train.errors import UserError

WEIGHT = {"layer.weight": torch.arange(6.0).reshape(2, 3)}


class RunsCommand:
    """Unpickled without care, it makes a file."""

    def __init__(self, sentinel):
        self.sentinel = sentinel

    def __reduce__(self):
        return Path.touch, (self.sentinel,)


class RunsShell(RunsCommand):
    def __reduce__(self):
        import os

        return os.system, (f"touch {self.sentinel}",)


class RunsText(RunsCommand):
    def __reduce__(self):
        return eval, (f"__import__('pathlib').Path({str(self.sentinel)!r}).touch()",)


class TestHarmlessContainers:
    @pytest.mark.parametrize("legacy", [False, True])
    def test_yacs_node_without_yacs(self, tmp_path, yacs, monkeypatch, legacy):
        node = yacs(MODEL=yacs(TYPE="vit", DROP_RATE=0.1), TAG="default")
        node.__dict__.update({"_immutable": True, "_deprecated_keys": {"OLD"}})
        content = {"model": WEIGHT, "config": node}
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
        monkeypatch.delitem(sys.modules, "yacs.config")
        opened, _ = open_weights(tmp_path / "w.pth")
        assert torch.equal(opened["model"]["layer.weight"], WEIGHT["layer.weight"])
        assert type(opened["config"]) is not yacs

    @pytest.mark.parametrize(
        "container",
        [
            argparse.Namespace(lr=0.1, output=argparse.Namespace(folder="x")),
            numpy.float64(0.8),
            numpy.arange(3),
            Path("a/b"),
            defaultdict(dict, a=1),
            OmegaConf.create({"lr": 0.1, "layers": [1, 2], "name": "vit", "nested": {"on": True}}),
        ],
        ids=["namespace", "numpy-scalar", "numpy-array", "path", "defaultdict", "omegaconf"],
    )
    def test_loads_beside_weights_and_is_not_built(self, tmp_path, container):
        torch.save({"model": WEIGHT, "extra": container}, tmp_path / "w.pth")
        opened, _ = open_weights(tmp_path / "w.pth")
        assert torch.equal(opened["model"]["layer.weight"], WEIGHT["layer.weight"])
        assert type(opened["extra"]) is not type(container)

    def test_allows_nothing_once_the_file_is_read(self, tmp_path):
        torch.save({"model": WEIGHT, "args": argparse.Namespace()}, tmp_path / "w.pth")
        before = set(torch.serialization.get_safe_globals())
        open_weights(tmp_path / "w.pth")
        assert set(torch.serialization.get_safe_globals()) == before


class TestCode:
    @pytest.mark.parametrize("danger", [RunsCommand, RunsShell, RunsText])
    @pytest.mark.parametrize("container", ["torch", "torch before 1.6", "torch protocol 4", "pickle"])
    def test_never_runs(self, tmp_path, danger, container):
        sentinel = tmp_path / "ran"
        content = {"model": WEIGHT, "extra": danger(sentinel)}
        file = tmp_path / "w.pth"
        if container == "pickle":
            file.write_bytes(pickle.dumps({"extra": danger(sentinel)}))
        else:
            torch.save(
                content,
                file,
                _use_new_zipfile_serialization=container != "torch before 1.6",
                pickle_protocol=4 if container == "torch protocol 4" else 2,
            )
        with pytest.raises(
            UserError, match=r"w\.pth: was not opened, as loading it could run code: it asks for "
        ) as caught:
            open_weights(file)
        assert not sentinel.exists()
        name = {RunsCommand: "Path.touch|getattr", RunsShell: r"(posix|nt|os)\.system", RunsText: "eval"}[danger]
        assert caught.match(name)
        assert caught.match("safetensors")

    def test_code_among_the_arguments_of_a_harmless_container(self, tmp_path):
        sentinel = tmp_path / "ran"
        torch.save({"model": WEIGHT, "args": argparse.Namespace(x=RunsShell(sentinel))}, tmp_path / "w.pth")
        with pytest.raises(UserError, match="could run code"):
            open_weights(tmp_path / "w.pth")
        assert not sentinel.exists()

    def test_whole_module_is_refused_with_what_it_asks_for(self, tmp_path):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\) alone"):
            open_weights(tmp_path / "w.pth")

    def test_textual_pickle_is_no_weights_file(self, tmp_path):
        sentinel = tmp_path / "ran"
        (tmp_path / "w.pth").write_bytes(pickle.dumps(RunsShell(sentinel), protocol=0))
        with pytest.raises(UserError, match="is a text file beginning"):
            open_weights(tmp_path / "w.pth")
        assert not sentinel.exists()


class TestDamage:
    def test_missing(self, tmp_path):
        with pytest.raises(UserError, match=r"none\.pth: cannot be read \(No such file"):
            open_weights(tmp_path / "none.pth")

    def test_empty(self, tmp_path):
        (tmp_path / "w.pth").touch()
        with pytest.raises(UserError, match=r"w\.pth: is empty \(0 bytes\)"):
            open_weights(tmp_path / "w.pth")

    @pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.99])
    @pytest.mark.parametrize("container", ["torch", "torch before 1.6", "safetensors"])
    def test_truncated(self, tmp_path, container, kept):
        file = tmp_path / ("w.safetensors" if container == "safetensors" else "w.pth")
        content = {f"layer.{index}": torch.randn(40) for index in range(20)}
        if container == "safetensors":
            save_file(content, file)
        else:
            torch.save(content, file, _use_new_zipfile_serialization=container == "torch")
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * kept)])
        with pytest.raises(UserError, match=r"is (truncated or )?damaged.*download it again"):
            open_weights(file)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "is a web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n", "git lfs pull"),
            (b"Access denied\n", "is a text file beginning 'Access denied'"),
            (b"\x89HDF\r\n\x1a\n\x00\x00", "HDF5"),
            (bytes(range(256)), "no format of weights we know"),
            (b"\x80\x02garbage", "is damaged, or pickled in a way"),
        ],
    )
    @pytest.mark.parametrize("name", ["w.pth", "w.bin"])
    def test_other_content(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            open_weights(tmp_path / name)

    def test_ending_does_not_decide(self, tmp_path):
        torch.save(WEIGHT, tmp_path / "w.safetensors")
        assert open_weights(tmp_path / "w.safetensors")[1] == "torch"

    def test_web_page_called_safetensors(self, tmp_path):
        (tmp_path / "w.safetensors").write_bytes(b"<html>Not found</html>")
        with pytest.raises(UserError, match="is a web page"):
            open_weights(tmp_path / "w.safetensors")

    def test_archives_of_other_programs(self, tmp_path):
        numpy.savez(tmp_path / "w.npz", kernel=numpy.ones(3))
        with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
            archive.writestr("readme.txt", "weights inside")
        with tarfile.open(tmp_path / "w.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
        for file, message in {"w.npz": "NumPy arrays", "w.zip": "zip archive without", "w.tar": "tar archive"}.items():
            with pytest.raises(UserError, match=message):
                open_weights(tmp_path / file)

    def test_torchscript(self, tmp_path):
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "w.pt")
        with pytest.raises(UserError, match="TorchScript"):
            open_weights(tmp_path / "w.pt")
