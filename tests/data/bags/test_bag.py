from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from vision_train.data.bags.bag import Bag, read_bag
from vision_train.data.bags.formats import open_bag
from vision_train.data.bags.index import index_bags
from vision_train.data.bags.stored import BadBagError

FEATURES = np.ones((5, 3), np.float32)


def read(root: Path, bag_id: str = "a") -> Bag:
    return read_bag(index_bags(root).entries[bag_id])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite(tmp_path: Path, value: float, dtype: str) -> None:
    features = torch.ones(5, 3, dtype=getattr(torch, dtype))
    features[1, 2] = features[3, 0] = features[3, 1] = value
    torch.save(features, tmp_path / "a.pt")
    with pytest.raises(BadBagError, match=r"^NaN or infinite values in 2 of 5 instances$"):
        read(tmp_path)


def test_large_values_of_float16_are_finite(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((1000, 8), 60_000, np.float16))
    assert read(tmp_path).features.isfinite().all()


def test_coordinates_between_pixels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=FEATURES, coords=np.full((5, 2), 0.5))
    with pytest.raises(BadBagError, match="not whole pixels of level 0"):
        read(tmp_path)


def test_a_file_that_changes_after_it_was_listed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FEATURES)
    entry = index_bags(tmp_path).entries["a"]
    np.save(tmp_path / "a.npy", FEATURES[:2])
    with pytest.raises(BadBagError, match="has changed: it was 5 x 3"):
        read_bag(entry)
    (tmp_path / "a.npy").unlink()
    with pytest.raises(BadBagError, match="No such file"):
        read_bag(entry)


def test_a_group_that_is_gone(written: Callable[[str], Path]) -> None:
    root = written("acmil")
    entry = index_bags(root).entries["007"]
    with h5py.File(entry.path, "a") as file:
        del file["007"]
    with pytest.raises(BadBagError, match="007"):
        read_bag(entry)


def test_values_in_one_piece_are_not_copied(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = FEATURES
        file["coords"] = np.zeros((5, 2), np.int64)
    with open_bag(tmp_path / "a.h5") as stored:
        assert isinstance(stored.arrays["features"].read(slice(1, 3)), np.memmap)
    features = read(tmp_path).features
    features += 1  # in memory alone
    assert torch.equal(read(tmp_path).features, torch.from_numpy(FEATURES))


@pytest.mark.parametrize(
    ("attributes", "side"),
    [
        ({"patch_size_level0": 512.0}, 512),
        ({"patch_size": 256, "downsample": (4.0001, 3.9998)}, 1024),
        ({"patch_size": 256, "downsample": 2}, 512),
        ({"patch_size": 256}, None),
        ({"patch_size_level0": "None"}, None),
        ({}, None),
    ],
)
def test_side_of_a_patch_at_level_0(tmp_path: Path, attributes: dict[str, Any], side: int | None) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = FEATURES
        file["coords"] = np.zeros((5, 2), np.int64)
        file["coords"].attrs.update(attributes)
    assert read(tmp_path).patch_size_level0 == side


@pytest.mark.parametrize(("value", "label"), [(1, "1"), (1.0, "1"), ("tumour", "tumour"), (b"tumour", "tumour")])
def test_labels_of_a_file(tmp_path: Path, value: Any, label: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = FEATURES
        file.attrs["label"] = value
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["features"] = FEATURES
        file["label"] = value
    entries = index_bags(tmp_path).entries
    assert (entries["a"].label, entries["b"].label) == (label, label)


def test_small_arrays_that_lie_in_the_header(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.COMPACT)
        space, kind = h5py.h5s.create_simple(FEATURES.shape), h5py.h5t.IEEE_F32LE
        h5py.h5d.create(file.id, b"features", kind, space, layout).write(space, space, FEATURES)
    assert torch.equal(read(tmp_path).features, torch.from_numpy(FEATURES))


def test_labels_of_instances_are_not_that_of_the_bag(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=FEATURES, label=np.zeros(5))
    assert index_bags(tmp_path).entries["a"].label is None


def test_several_labels_are_none(tmp_path: Path) -> None:
    torch.save({"features": torch.nn.Parameter(torch.ones(2, 3)), "label": [0, 1]}, tmp_path / "a.pt")
    assert index_bags(tmp_path).entries["a"].label is None
    assert not read(tmp_path).features.requires_grad
