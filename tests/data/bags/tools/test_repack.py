import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from vision_train.data.bags.bag import read_bag
from vision_train.data.bags.index import BagIndex, index_bags
from vision_train.data.bags.stored import StoredBag, array_in_memory
from vision_train.data.bags.tools import writing
from vision_train.data.bags.tools.repack import Repacked, repack_bags
from vision_train.data.bags.tools.writing import write_bag
from vision_train.errors import UserError

Written = Callable[[str], Path]


def repack(index: BagIndex, folder: Path, **options: Any) -> list[Repacked]:
    return list(repack_bags(index, folder, **options))


def test_every_format_keeps_all_that_it_says(
    format_name: str, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BLOCK_BYTES", 40)  # two or three rows at a time
    before = index_bags(written(format_name))
    assert repack(before, tmp_path / "fast") == [Repacked("007"), Repacked("slide.b")]
    after = index_bags(tmp_path / "fast")
    for bag_id, old in before.entries.items():
        new = after.entries[bag_id]
        assert (new.label, new.encoder, new.patch_size_level0) == (old.label, old.encoder, old.patch_size_level0)
        assert new.dtype == ("float32" if old.dtype == "bfloat16" else old.dtype)
        old_bag, new_bag = read_bag(old), read_bag(new)
        assert torch.equal(new_bag.features, old_bag.features.to(new_bag.features.dtype))
        assert (old_bag.coords is None) == (new_bag.coords is None)
        if old_bag.coords is not None and new_bag.coords is not None:
            assert torch.equal(new_bag.coords, old_bag.coords)
        with h5py.File(new.path) as file:
            assert file["features"].chunks is None
    assert {file.suffix for file in (tmp_path / "fast").iterdir()} == {".h5"}


def test_attributes_stay(written: Written, tmp_path: Path) -> None:
    repack(index_bags(written("trident")), tmp_path / "fast")
    with h5py.File(tmp_path / "fast" / "007.h5") as file:
        assert dict(file["features"].attrs) == {"name": "007", "savetodir": "None", "encoder": "uni"}
        assert file["coords"].attrs["level0_magnification"] == 40
        assert file["coords"].dtype == np.int64
    repack(index_bags(written("acmil")), tmp_path / "faster")
    with h5py.File(tmp_path / "faster" / "007.h5") as file:
        source = tmp_path / "bags" / "patch_feats_pretrain_medical_ssl.h5"
        origin = {"repacked_from": f"bags/{source.name}", "repacked_bytes": source.stat().st_size}
        assert dict(file.attrs) == {"label": 1, **origin}


def test_a_stopped_command_goes_on(written: Written, tmp_path: Path) -> None:
    index, fast = index_bags(written("clam h5")), tmp_path / "fast"
    assert next(repack_bags(index, fast)) == Repacked("007")
    assert repack(index, fast) == [Repacked("007", kept=True), Repacked("slide.b")]
    assert repack(index, fast) == [Repacked("007", kept=True), Repacked("slide.b", kept=True)]


def test_what_is_old_damaged_or_of_another_size_is_written_again(written: Written, tmp_path: Path) -> None:
    index, fast = index_bags(written("clam h5")), tmp_path / "fast"
    repack(index, fast)
    newer = (fast / "007.h5").stat().st_mtime_ns + 1
    os.utime(index.entries["007"].path, ns=(newer, newer))
    (fast / "slide.b.h5").write_bytes((fast / "slide.b.h5").read_bytes()[:100])
    assert repack(index, fast) == [Repacked("007"), Repacked("slide.b")]
    os.utime(index.entries["007"].path, ns=(0, 0))
    with h5py.File(fast / "007.h5", "w") as file:
        file["features"] = np.ones((2, 2), np.float32)
    assert repack(index, fast) == [Repacked("007"), Repacked("slide.b", kept=True)]


@pytest.mark.parametrize("other", ["encoder", "dtype", "folder", "bytes"])
def test_a_bag_of_another_source_is_written_again(other: str, tmp_path: Path) -> None:
    def write(folder: Path, dtype: type = np.float32, encoder: str = "uni", instances: str = "1") -> BagIndex:
        folder.mkdir(parents=True)
        with h5py.File(folder / "a.h5", "w") as file:
            file["features"] = np.ones((4, 2), dtype)
            file.attrs.update(encoder=encoder, instances=instances)
        os.utime(folder / "a.h5", ns=(0, 0))
        return index_bags(folder)

    first, fast = write(tmp_path / "1" / "bags"), tmp_path / "fast"
    repack(first, fast)
    second = write(
        tmp_path / "2" / ("others" if other == "folder" else "bags"),
        np.float16 if other == "dtype" else np.float32,
        "conch" if other == "encoder" else "uni",
        "2" * 30_000 if other == "bytes" else "1",
    )
    assert repack(second, fast) == [Repacked("a")]
    assert repack(second, fast) == [Repacked("a", kept=True)]
    assert index_bags(fast).entries["a"].encoder == second.entries["a"].encoder


def test_a_file_that_fails_leaves_nothing_behind(written: Written, tmp_path: Path) -> None:
    index, fast = index_bags(written("npz")), tmp_path / "fast"
    file = index.entries["007"].path
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"1 bag\(s\) cannot be used. 007: damaged"):
        repack(index, fast)
    assert list(fast.iterdir()) == []
    done = repack(index, fast, on_bad_bag="skip")
    assert [(bag.id, bag.skipped is None) for bag in done] == [("007", False), ("slide.b", True)]
    assert [file.name for file in fast.iterdir()] == ["slide.b.h5"]


def test_bad_bags_of_the_index(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.ones((2, 2), np.float32))
    np.save(tmp_path / "empty.npy", np.ones((0, 2), np.float32))
    index = index_bags(tmp_path)
    with pytest.raises(UserError, match=r"empty: empty: it has no instances.*--skip-bad"):
        repack(index, tmp_path / "fast", skip_with="give --skip-bad")
    done = repack(index, tmp_path / "fast", on_bad_bag="skip")
    assert done == [Repacked("empty", skipped="empty: it has no instances"), Repacked("good")]


def test_folders_that_cannot_be_written_to(written: Written, tmp_path: Path) -> None:
    root = written("npy")
    with pytest.raises(UserError, match="the features are read from this folder; name another"):
        repack_bags(index_bags(root), root)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        repack_bags(index_bags(root), tmp_path / "file")
    with pytest.raises(UserError, match=r"absent/a.h5: cannot be written"):
        write_bag(tmp_path / "absent" / "a.h5", StoredBag({}))


def test_attributes_that_hdf5_does_not_know(tmp_path: Path) -> None:
    arrays = {"features": array_in_memory(np.ones((2, 2), np.float32))}
    write_bag(tmp_path / "a.h5", StoredBag(arrays, {"nothing": None, "list": [1, "b"], "number": 3, "text": "x"}))
    with h5py.File(tmp_path / "a.h5") as file:
        assert dict(file.attrs) == {"nothing": "null", "list": '[1, "b"]', "number": 3, "text": "x"}
