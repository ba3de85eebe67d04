"""Bags in HDF5 files. A file of CLAM or TRIDENT holds one bag, a file of ACMIL one in each group.

A file is closed after each reading, so that no handle outlives a fork or blocks a writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from vision_train.data.bags.stored import (
    BadBagError,
    StoredArray,
    StoredBag,
    Values,
    damage_named,
    first_line,
    stored_array,
)
from vision_train.errors import UserError

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"


def import_h5py(path: Path) -> ModuleType:
    """Import the package that HDF5 files need.

    Raises:
        UserError: h5py is not installed; the message names ``path``.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: HDF5 files need the package h5py; pip install 'vision-train[bags]'") from error
    return h5py


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading.

    Raises:
        UserError: The package h5py is missing.
        BadBagError: The file is damaged, or open for writing elsewhere.
    """
    h5py = import_h5py(path)
    with damage_named(_reason):
        file = h5py.File(path, "r")
    with file:
        yield file


def _reason(error: Exception) -> str:
    text = str(error)
    if "unable to lock file" in text:
        return (
            "locked, as another program has it open for writing; let that finish, or, on a disk of the network that "
            "cannot lock files, set HDF5_USE_FILE_LOCKING=FALSE in the environment"
        )
    if "truncated" in text:
        return "truncated: it is shorter than it says; copy or make it again"
    if "signature not found" in text:
        return "not an HDF5 file, in spite of its name"
    return f"cannot be opened ({first_line(error)})"


def bags_in(file: h5py.File, path: Path, only: str | None = None) -> dict[str, StoredBag]:
    """Bags of an open file by the names of their groups. A bag at the top has the empty name.

    Args:
        file: The open file.
        path: Path of the file.
        only: The only group to look at; None for all.
    """
    with damage_named():
        if only:
            return {only: _bag(dict(file[only]), file[only], path)}
        members = dict(file)
        if not members:
            raise BadBagError("holds nothing")
        if any(map(_is_dataset, members.values())):
            return {"": _bag(members, file, path)}
        return {name: _bag(dict(group), group, path) for name, group in members.items()}


def _bag(members: Mapping[str, Any], group: h5py.Group, path: Path) -> StoredBag:
    arrays = {name: _array(member, path) for name, member in members.items() if _is_dataset(member)}
    return StoredBag(arrays, dict(group.attrs))


def _is_dataset(member: Any) -> bool:
    return hasattr(member, "chunks")  # a group has none


def _array(dataset: h5py.Dataset, path: Path) -> StoredArray:
    attributes = dict(dataset.attrs)
    mappable = dataset.shape and dataset.size and dataset.dtype.kind in "iuf" and not dataset.external
    offset = dataset.id.get_offset() if mappable else None
    if offset is None:
        return stored_array(dataset.shape, dataset.dtype, dataset.__getitem__, attributes)
    shape, dtype = dataset.shape, dataset.dtype

    @cache
    def mapped() -> Values:
        # Values in one piece are mapped: only requested rows are read, and nothing is copied.
        return np.memmap(path, dtype=dtype, mode="c", offset=offset, shape=shape)

    return stored_array(shape, dtype, lambda place: mapped()[place], attributes)
