"""Opening a file of features of any format without executing code from it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from vision_train.data.bags import hdf5
from vision_train.data.bags.stored import (
    BadBagError,
    StoredArray,
    StoredBag,
    Values,
    array_in_memory,
    damage_named,
    first_line,
    stored_array,
)
from vision_train.files import utf_8_path

FEATURE_ENDINGS = (".h5", ".hdf5", ".npy", ".npz", ".pt", ".pth", ".safetensors")
"""Endings of the files that are listed in a folder. The format is recognised by the content."""

_reconstruct = np.empty(0).__reduce__()[0]
_scalar = np.float32(0).__reduce__()[0]
# TRIDENT saves NumPy arrays by torch.save. Arrays of Python objects stay refused, as their dtype is not listed.
_NUMPY_TYPES: list[Any] = [
    _reconstruct,
    (_reconstruct, "numpy.core.multiarray._reconstruct"),  # its name in files of NumPy 1
    _scalar,
    (_scalar, "numpy.core.multiarray.scalar"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8")),
]


@contextmanager
def open_bags(path: Path, only: str | None = None) -> Iterator[Mapping[str, StoredBag]]:
    """Open a file and read as little of it as its format allows.

    Of .npy, .npz, .safetensors, HDF5 and tensors in .pt only the shapes are read; NumPy arrays in .pt are read whole.

    Args:
        path: The file.
        only: The only group to look at in a file of many bags; None for all.

    Yields:
        Bags by their groups in the file. The only bag of a file has the empty name.

    Raises:
        UserError: The file is in HDF5, and h5py is not installed.
        BadBagError: The file is missing, damaged, locked, of another format, or would run code.
    """
    with damage_named(first_line), path.open("rb") as stream:
        head = stream.read(16)
    if not head:
        raise BadBagError("empty file (0 bytes)")
    if head.startswith(hdf5.SIGNATURE) or path.suffix in (".h5", ".hdf5"):
        with hdf5.open_hdf5(path) as file:
            yield hdf5.bags_in(file, path, only)
    else:
        yield {"": _opener(path, head)(path)}


@contextmanager
def open_bag(path: Path, group: str = "") -> Iterator[StoredBag]:
    """Open a file for one of its bags.

    Raises:
        UserError: As :func:`open_bags`.
        BadBagError: As :func:`open_bags`, or there is no such bag in the file.
    """
    with open_bags(path, group or None) as bags:
        if group not in bags:
            raise BadBagError("holds a group for each of several bags")
        yield bags[group]


def _opener(path: Path, head: bytes) -> Callable[[Path], StoredBag]:
    if head.startswith(b"\x93NUMPY"):
        return _open_npy
    if head.startswith(b"PK\x03\x04"):
        with damage_named(), zipfile.ZipFile(path) as archive:
            return _open_npz if any(name.endswith(".npy") for name in archive.namelist()) else _open_torch
    if head[8:9] == b"{":
        return _open_safetensors
    if head.startswith(b"\x80"):
        return _open_torch
    raise BadBagError(f"in no format of features that we know ({', '.join(FEATURE_ENDINGS)})")


def _open_npy(path: Path) -> StoredBag:
    with damage_named():
        array = np.load(path, mmap_mode="c")
    return StoredBag({"features": array_in_memory(array)})


def _open_npz(path: Path) -> StoredBag:
    with damage_named(), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        return StoredBag({name: _npz_member(path, archive, name) for name in names})


def _npz_member(path: Path, archive: zipfile.ZipFile, name: str) -> StoredArray:
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)

    @cache
    def values() -> Values:
        with np.load(path) as file:
            return file[name]

    return stored_array(shape, dtype, lambda place: values()[place])


def _open_safetensors(path: Path) -> StoredBag:
    with damage_named(), utf_8_path(path) as readable, safe_open(readable, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
        return StoredBag(_stored(tensors), file.metadata() or {})


def _open_torch(path: Path) -> StoredBag:
    zipped = zipfile.is_zipfile(path)  # files of torch before 1.6 are not, and cannot be mapped
    with damage_named(_torch_reason), torch.serialization.safe_globals(_NUMPY_TYPES), utf_8_path(path) as readable:
        content = torch.load(readable, map_location="cpu", weights_only=True, mmap=zipped)
    if isinstance(content, Tensor | np.ndarray):
        content = {"features": content}
    if not isinstance(content, dict):
        raise BadBagError(f"holds a {type(content).__name__} instead of an array of features")
    arrays = {str(name): value for name, value in content.items() if isinstance(value, Tensor | np.ndarray)}
    attributes = {str(name): value for name, value in content.items() if str(name) not in arrays}
    return StoredBag(_stored(arrays), attributes)


def _stored(arrays: Mapping[str, Values]) -> dict[str, StoredArray]:
    return {name: array_in_memory(value) for name, value in arrays.items()}


def _torch_reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "not opened, as loading it could run code; save the features alone, as a tensor, with torch.save"
    return f"damaged ({first_line(error)})"
