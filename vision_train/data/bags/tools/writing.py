"""Writing a bag so that it is read fast.

CLAM and TRIDENT write each instance as a chunk of its own, and HDF5 looks up every chunk. This module writes each array
in one piece, which is mapped into memory as fast as a safetensors file. CLAM, TRIDENT and h5py read such files too.
Arrays are copied block by block, so that bags may be larger than memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vision_train.data.bags.hdf5 import import_h5py
from vision_train.data.bags.stored import StoredArray, StoredBag, as_tensor, first_line
from vision_train.errors import UserError
from vision_train.files import escape_name, written_whole

BLOCK_BYTES = 2**25
"""Size of the blocks that are read and written at a time."""
STORED_AS = {
    name: name
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    )
} | {"bfloat16": "float32"}
"""Type of an array -> type that HDF5 stores it as."""


def write_bag(file: Path, bag: StoredBag) -> None:
    """Write one bag to an HDF5 file with TRIDENT's names, each array in one piece.

    Args:
        file: File to write. An existing file is replaced once the new one is complete.
        bag: The bag. Arrays in bfloat16 are stored as float32, and attributes that HDF5 does not know as json.

    Raises:
        UserError: h5py is missing, or the file cannot be written.
        BadBagError: An array cannot be read.
    """
    h5py = import_h5py(file)
    try:
        with written_whole(file) as temporary, h5py.File(temporary, "w") as target:
            target.attrs.update(_attributes(bag.attributes))
            for name, array in bag.arrays.items():
                dataset = target.create_dataset(name, shape=array.shape, dtype=STORED_AS[array.dtype])
                dataset.attrs.update(_attributes(array.attributes))
                for rows in _blocks(array):
                    values = as_tensor(array.read(rows))
                    values = values.float() if values.dtype == torch.bfloat16 else values
                    dataset[rows if array.shape else ()] = values.numpy()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{file}: cannot be written ({first_line(error)})") from error


def _blocks(array: StoredArray) -> Iterator[slice]:
    if not array.shape:
        yield slice(None)
        return
    row_bytes = math.prod(array.shape[1:]) * np.dtype(STORED_AS[array.dtype]).itemsize
    rows = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, array.shape[0], rows):
        yield slice(start, start + rows)


def _attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    plain = (str, bytes, bool, int, float, np.generic, np.ndarray)
    written = {
        name: value if isinstance(value, plain) else json.dumps(value, default=str)
        for name, value in attributes.items()
    }
    return {name: escape_name(value) if isinstance(value, str) else value for name, value in written.items()}
