"""Two small bags, and every format that they can lie in, written as the programs that own it do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]

WIDTH = 4
PATCH_SIZE_LEVEL0 = 512


def make_bag(instances: int, width: int = WIDTH, seed: int = 0) -> Arrays:
    """Features that float16 holds exactly, and coordinates."""
    generator = np.random.default_rng((seed, instances))
    features = generator.integers(-100, 100, (instances, width)).astype(np.float32) / 8
    return features, generator.integers(0, 100_000, (instances, 2))


BAGS: dict[str, Arrays] = {"007": make_bag(5), "slide.b": make_bag(3)}
LABELS = {"007": "1", "slide.b": "0"}


def write_rows(file: h5py.Group, array: str, values: NDArray[Any], **attributes: Any) -> None:
    """As CLAM and TRIDENT do: a chunk for each row."""
    shape = values.shape
    maximum = (None, *shape[1:])
    dataset = file.create_dataset(array, data=values, maxshape=maximum, chunks=(1, *shape[1:]))
    dataset.attrs.update(attributes)


def clam_h5(root: Path) -> Path:
    for folder in ("h5_files", "pt_files", "patches"):
        (root / folder).mkdir(parents=True)
    for bag_id, (features, coords) in BAGS.items():
        with h5py.File(root / "h5_files" / f"{bag_id}.h5", "w") as file:
            write_rows(file, "features", features)
            write_rows(file, "coords", coords.astype(np.int32))
        torch.save(torch.from_numpy(features), root / "pt_files" / f"{bag_id}.pt")
        clam_patches(root / "patches" / f"{bag_id}.h5", coords)
    return root


def clam_patches(file: Path, coords: NDArray[np.int64]) -> None:
    with h5py.File(file, "w") as target:
        attributes = {"patch_size": 256, "patch_level": 1, "downsample": (2.0, 2.0), "name": file.stem}
        write_rows(target, "coords", coords, **attributes, level_dim=(50_000, 50_000), save_path="somewhere")


def clam_pt(root: Path) -> Path:
    clam_h5(root / "all")
    for file in (root / "all" / "h5_files").iterdir():
        file.unlink()
    return root / "all"


def trident(root: Path) -> Path:
    home = root / "20x_256px_0px_overlap"
    for folder in ("patches", "features_uni", "slide_features_titan"):
        (home / folder).mkdir(parents=True)
    for bag_id, (features, coords) in BAGS.items():
        patching: dict[str, Any] = {"patch_size": 256, "patch_size_level0": PATCH_SIZE_LEVEL0, "overlap": 0}
        patching |= {"level0_magnification": 40, "target_magnification": 20, "name": bag_id, "savetodir": "None"}
        with h5py.File(home / "features_uni" / f"{bag_id}.h5", "w") as file:
            write_rows(file, "features", features, name=bag_id, savetodir="None", encoder="uni")
            write_rows(file, "coords", coords, **patching)
        with h5py.File(home / "patches" / f"{bag_id}_patches.h5", "w") as file:
            write_rows(file, "coords", coords, **patching)
    return root


def trident_pt(root: Path) -> Path:
    trident(root)
    folder = root / "20x_256px_0px_overlap" / "features_uni"
    for bag_id, (features, _) in BAGS.items():
        (folder / f"{bag_id}.h5").unlink()
        torch.save(features, folder / f"{bag_id}.pt")
    return folder


def acmil(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "patch_feats_pretrain_medical_ssl.h5", "w") as file:
        for bag_id, (features, coords) in BAGS.items():
            group = file.create_group(bag_id)
            write_rows(group, "feat", features.astype(np.float16))
            write_rows(group, "coords", coords)
            group.attrs["label"] = int(LABELS[bag_id])
    return root


def each_bag(write: Callable[[Path, NDArray[np.float32], NDArray[np.int64]], Any], ending: str) -> Any:
    def write_folder(root: Path) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        for bag_id, bag in BAGS.items():
            write(root / f"{bag_id}{ending}", *bag)
        return root

    return write_folder


def as_dict(path: Path, features: NDArray[np.float32], coords: NDArray[np.int64]) -> None:
    content = {"features": torch.from_numpy(features).bfloat16(), "coords": torch.from_numpy(coords)}
    torch.save({**content, "label": int(LABELS[path.stem]), "encoder": "uni"}, path)


def as_safetensors(path: Path, features: NDArray[np.float32], coords: NDArray[np.int64]) -> None:
    metadata = {"encoder": "uni", "patch_size_level0": "512", "label": LABELS[path.stem]}
    save_file({"features": torch.from_numpy(features).half(), "coords": torch.from_numpy(coords)}, path, metadata)


def as_npz(path: Path, features: NDArray[np.float32], coords: NDArray[np.int64]) -> None:
    np.savez_compressed(path, feats=features[None], coords=coords[None], label=np.array(int(LABELS[path.stem])))


def as_contiguous(path: Path, features: NDArray[np.float32], coords: NDArray[np.int64]) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = features[None].astype(">f4")
        file["coords"] = coords.astype(np.float64)


FORMATS: dict[str, Callable[[Path], Path]] = {
    "clam h5": clam_h5,
    "clam pt": clam_pt,
    "trident": trident,
    "trident pt": trident_pt,
    "acmil": acmil,
    "npy": each_bag(lambda path, features, coords: np.save(path, features[None]), ".npy"),
    "npz": each_bag(as_npz, ".npz"),
    "safetensors": each_bag(as_safetensors, ".safetensors"),
    "pt of a dict": each_bag(as_dict, ".pt"),
    "h5 in one piece": each_bag(as_contiguous, ".h5"),
}


@pytest.fixture
def expected() -> dict[str, Arrays]:
    """Features and coordinates of each bag."""
    return BAGS


@pytest.fixture
def labels() -> dict[str, str]:
    return LABELS


@pytest.fixture
def make() -> Callable[..., Arrays]:
    """Another bag: (instances, width) -> features and coordinates."""
    return make_bag


@pytest.fixture(params=FORMATS)
def format_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Write the two bags in the format of a name; where they lie."""
    return lambda name: FORMATS[name](tmp_path / "bags")
