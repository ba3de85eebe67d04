import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from vision_train.data.bags.bag import BagEntry, read_bag
from vision_train.data.bags.index import index_bags, slide_id
from vision_train.errors import UserError

Written = Callable[[str], Path]


def test_item_8_every_format_gives_the_same_bags(format_name: str, written: Written, expected: dict[str, Any]) -> None:
    index = index_bags(written(format_name))
    assert index.bad == {}
    assert list(index.entries) == ["007", "slide.b"]
    for bag_id, (features, coords) in expected.items():
        entry = index.entries[bag_id]
        assert (entry.instances, entry.width) == features.shape
        bag = read_bag(entry)
        assert bag.features.dtype == getattr(torch, entry.dtype)
        np.testing.assert_array_equal(bag.features.float().numpy(), features)
        if format_name == "npy":
            assert bag.coords is None
            continue
        assert bag.coords is not None
        assert bag.coords.dtype == torch.int64
        np.testing.assert_array_equal(bag.coords.numpy(), coords)


def test_files_of_any_name_and_every_format(format_name: str, written: Written) -> None:
    root = written(format_name)
    root = root if root.is_dir() else root.parent
    for file in [file for file in root.rglob("*007*") if file.is_file()]:
        file.rename(file.with_name(file.name.replace("007", "caf\udce9\n007")))
    index = index_bags(root)
    assert index.bad == {}
    for entry in index.entries.values():
        assert len(read_bag(entry).features) == entry.instances


@pytest.mark.parametrize(
    ("name", "dtype", "encoder", "patch_size_level0", "label"),
    [
        ("clam h5", "float32", None, 512, None),
        ("clam pt", "float32", None, 512, None),
        ("trident", "float32", "uni", 512, None),
        ("trident pt", "float32", "uni", 512, None),
        ("acmil", "float16", None, None, "1"),
        ("npz", "float32", None, None, "1"),
        ("safetensors", "float16", "uni", 512, "1"),
        ("pt of a dict", "bfloat16", "uni", None, "1"),
    ],
)
def test_item_8_what_the_index_knows_before_reading(
    written: Written, name: str, dtype: str, encoder: str, patch_size_level0: int, label: str
) -> None:
    entry = index_bags(written(name)).entries["007"]
    facts = (entry.dtype, entry.encoder, entry.patch_size_level0, entry.label)
    assert facts == (dtype, encoder, patch_size_level0, label)


def test_features_are_not_read(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("values were read"))
    assert len(index_bags(written("clam h5")).entries) == 2


@pytest.mark.parametrize("below", ["", "20x_256px_0px_overlap", "20x_256px_0px_overlap/features_uni"])
def test_a_trident_tree_is_found_from_each_of_its_levels(written: Written, below: str) -> None:
    entries = index_bags(written("trident") / below).entries
    assert [entry.patch_size_level0 for entry in entries.values()] == [512, 512]


def test_a_file_of_many_bags_and_a_file_of_one(written: Written) -> None:
    file = written("acmil") / "patch_feats_pretrain_medical_ssl.h5"
    assert [entry.group for entry in index_bags(file).entries.values()] == ["007", "slide.b"]
    (entry,) = index_bags(written("safetensors") / "007.safetensors").entries.values()
    assert (entry.id, entry.group) == ("007", "")


def test_a_one_instance_bag_is_a_bag(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones((1, 3), np.float32))
    assert read_bag(index_bags(tmp_path).entries["one"]).features.shape == (1, 3)


def test_files_of_torch_before_zip_archives(tmp_path: Path) -> None:
    torch.save(torch.ones(2, 3), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_bag(index_bags(tmp_path).entries["old"]).features.shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("007", "007"),
        (" TCGA-A1-A0SB-01Z-00-DX1.1B67.svs ", "TCGA-A1-A0SB-01Z-00-DX1.1B67"),
        ("a.ome.tif", "a"),
        ("A.NDPI", "A"),
        ("v1.2", "v1.2"),
        ("u\N{COMBINING DIAERESIS}", "\N{LATIN SMALL LETTER U WITH DIAERESIS}"),
    ],
)
def test_ids(name: str, expected: str) -> None:
    assert slide_id(name) == expected


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as refused:
        index_bags(root)
    return str(refused.value)


def test_folders_that_hold_no_bags(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "absent")
    assert "no features in it (found: nothing)" in refusal(tmp_path)
    (tmp_path / "slides").mkdir()
    assert "found: slides" in refusal(tmp_path)


def test_features_of_several_encoders(written: Written) -> None:
    root = written("trident")
    shutil.copytree(root / "20x_256px_0px_overlap/features_uni", root / "20x_256px_0px_overlap/features_conch")
    assert "several kinds: 20x_256px_0px_overlap/features_conch, 20x_256px_0px_overlap/features_uni;" in refusal(root)


def test_h5py_is_asked_for_when_it_is_needed(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    root = written("trident")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert "pip install 'vision-train[bags]'" in refusal(root)


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def save_h5(path: Path, **arrays: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


class Unsafe:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


MATRIX = np.ones((3, 2), np.float32)
PLACES = np.ones((3, 2), np.int64)
BAD: list[tuple[str, Callable[[Path], Any], str]] = [
    ("a.h5", lambda path: save_h5(path, features=np.ones((0, 2), np.float32), coords=PLACES[:0]), "empty: it has no"),
    ("a.h5", lambda path: save_h5(path, features=np.ones((0,), np.float32)), "empty: it has no instances"),
    ("a.npy", lambda path: np.save(path, MATRIX[0]), "features of shape (2,)"),
    ("a.npy", lambda path: np.save(path, np.ones((2, 3, 4), np.float32)), "features of shape (2, 3, 4)"),
    ("a.npy", lambda path: np.save(path, PLACES), "features of type int64; they must be one of float16"),
    ("a.npy", lambda path: np.save(path, MATRIX.astype(object)), "damaged (Array can't be memory-mapped"),
    ("a.npz", lambda path: np.savez(path, features=MATRIX.astype(object)), "features of type object"),
    ("a.h5", lambda path: save_h5(path, features=MATRIX, coords=PLACES[:2]), "3 instances, but coordinates of shape"),
    ("a.npz", lambda path: np.savez(path, features=MATRIX, coords=PLACES.astype(str)), "coordinates of type str"),
    ("a.npy", lambda path: np.save(path, MATRIX[:, :0]), "features of shape (3, 0)"),
    ("a.pt", lambda path: torch.save({"features": MATRIX, "patch_size_level0": "wide"}, path), "damaged (could not"),
    ("a.h5", lambda path: save_h5(path, coords=PLACES), "coordinates without features"),
    ("a.h5", lambda path: save_h5(path, one=MATRIX, two=MATRIX), "no array called features in it (found: one, two)"),
    ("a.h5", lambda path: save_h5(path), "holds nothing"),
    ("a.h5", lambda path: path.write_text("text"), "not an HDF5 file, in spite of its name"),
    ("a.h5", lambda path: path.touch(), "empty file (0 bytes)"),
    ("a.h5", lambda path: [save_h5(path, features=MATRIX), truncate(path)], "truncated: it is shorter than it says"),
    ("a.npy", lambda path: [np.save(path, MATRIX), truncate(path)], "damaged (EOF: reading array header"),
    ("a.npz", lambda path: [np.savez(path, features=MATRIX), truncate(path)], "damaged (File is not a zip file)"),
    ("a.pt", lambda path: [torch.save(torch.ones(3, 2), path), truncate(path)], "damaged ("),
    ("a.pt", lambda path: torch.save({"features": Unsafe()}, path), "not opened, as loading it could run code"),
    ("a.pt", lambda path: torch.save({"features": MATRIX.astype(object)}, path), "not opened, as loading it could"),
    ("a.pt", lambda path: torch.save([torch.ones(3, 2)], path), "holds a list instead of an array"),
    ("a.pt", lambda path: path.write_text("version https://git-lfs"), "in no format of features that we know"),
    ("a.safetensors", lambda path: path.write_bytes(b"\xff" * 8 + b"{}"), "damaged (Error while deserializing header"),
    ("a.npz", lambda path: zipfile.ZipFile(path, "w").close(), "in no format of features that we know"),
]


@pytest.mark.parametrize(("name", "write", "reason"), BAD, ids=[reason[:30] for _, _, reason in BAD])
def test_bad_files_are_named_with_the_reason(
    tmp_path: Path, name: str, write: Callable[[Path], Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / name)
    np.save(tmp_path / "good.npy", MATRIX)
    index = index_bags(tmp_path)
    assert list(index.entries) == ["good"]
    assert list(index.bad) == ["a"]
    assert reason in index.bad["a"]
    assert "executed" not in capsys.readouterr().out


def test_a_file_open_for_writing_elsewhere(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    save_h5(tmp_path / "a.h5", features=MATRIX)
    with (tmp_path / "a.h5").open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert "locked, as another program has it open" in index_bags(tmp_path).bad["a"]
    assert index_bags(tmp_path).bad == {}


def test_two_bags_of_one_id(tmp_path: Path) -> None:
    for name in ("a.npy", "a.svs.npy", "b.npy"):
        np.save(tmp_path / name, MATRIX)
    index = index_bags(tmp_path)
    assert list(index.entries) == ["b"]
    assert index.bad["a"] == f"2 bags of one id: {tmp_path / 'a.npy'}, {tmp_path / 'a.svs.npy'}"


def test_patches_that_do_not_belong_to_the_features(written: Written) -> None:
    root = written("clam pt")
    (root / "patches/007.h5").unlink()
    (root / "patches/slide.b.h5").rename(root / "patches/007.h5")
    index = index_bags(root)
    assert index.bad["007"].startswith(f"its patches {root / 'patches/007.h5'}: 5 instances, but coordinates of shape")
    assert index.entries["slide.b"].coords is None


def test_patches_beside_the_features_of_clam(written: Written) -> None:
    root = written("clam h5")
    (root / "features").mkdir()
    for name in ("h5_files", "pt_files"):
        (root / name).rename(root / "features" / name)
    for folder in (root / "features", root / "features" / "pt_files"):
        assert [entry.patch_size_level0 for entry in index_bags(folder).entries.values()] == [512, 512]


def entry_of(root: Path) -> BagEntry:
    (entry,) = index_bags(root).entries.values()
    return entry


def test_hidden_files_are_none_of_ours(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MATRIX)
    (tmp_path / "._a.npy").write_bytes(b"resource fork")
    assert entry_of(tmp_path).id == "a"
