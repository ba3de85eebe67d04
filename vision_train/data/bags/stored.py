"""What a file of features holds, in whatever format, before any of it is read."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from vision_train.errors import BadSampleError

Values = Tensor | NDArray[Any]
Rows = slice | NDArray[np.int64]
"""A range of rows, or single ones in ascending order."""

FEATURE_NAMES = ("features", "feats", "feat")
"""What the array of features is called: by CLAM and TRIDENT, by others, by ACMIL."""
COORDS, LABEL = "coords", "label"

# What the libraries below raise on damaged files, depending on where they stumble.
_DAMAGE = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    EOFError,
    AttributeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    SafetensorError,
)


class BadBagError(BadSampleError):
    """A bag that cannot be used; the message is the reason, without the bag's name."""


@contextmanager
def damage_named(reason: Callable[[Exception], str] | None = None) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into a :class:`BadBagError`.

    Args:
        reason: Says what is wrong; None takes the first line of the library's own message.
    """
    try:
        yield
    except _DAMAGE as error:
        raise BadBagError(reason(error) if reason else f"damaged ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """The first line of a library's message; its class where it has none."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0]


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in an open file."""

    shape: tuple[int, ...]
    """Without the leading axis of a stack of one: 1 N D counts as N D."""
    dtype: str
    """Such as ``float16``; ``bfloat16`` in formats that know it."""
    read: Callable[[Rows], Values]
    """Reads rows, or the one value of an array without axes. Raises :class:`BadBagError` where the file is damaged."""
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredBag:
    """One bag in an open file."""

    arrays: Mapping[str, StoredArray]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def features_name(self) -> str:
        """Name of the array that holds the features.

        Raises:
            BadBagError: None does, or it cannot be told which.
        """
        known = [name for name in FEATURE_NAMES if name in self.arrays]
        others = [name for name in self.arrays if name not in (COORDS, LABEL)]
        if known or len(others) == 1:
            return (known or others)[0]
        if COORDS in self.arrays and not others:
            raise BadBagError("coordinates without features; name the folder of the features")
        raise BadBagError(f"no array called features in it (found: {', '.join(self.arrays) or 'nothing'})")

    def fact(self, name: str) -> Any:
        """An attribute of the bag or of one of its arrays; None where there is none.

        TRIDENT writes the word ``None`` where it means nothing.
        """
        holders = (*(array.attributes for array in self.arrays.values()), self.attributes)
        value = next((holder[name] for holder in holders if name in holder), None)
        value = value.decode(errors="replace") if isinstance(value, bytes) else value
        return None if isinstance(value, str) and value in ("", "None") else value


def stored_array(
    shape: tuple[int, ...], dtype: Any, at: Callable[[Any], Values], attributes: Mapping[str, Any] | None = None
) -> StoredArray:
    """Describe an array that is read by indexing it.

    Args:
        shape: As stored.
        dtype: NumPy's or torch's.
        at: Takes what stands between brackets, such as the ``__getitem__`` of an array, a tensor or an HDF5 data set.
        attributes: What the file says of the array.
    """
    stacked = len(shape) == 3 and shape[0] == 1

    def read(rows: Rows) -> Values:
        with damage_named():
            return at((0, rows) if stacked else rows if shape else ())

    name = str(getattr(dtype, "name", dtype)).removeprefix("torch.")
    return StoredArray(tuple(shape[1:] if stacked else shape), name, read, attributes or {})


def array_in_memory(values: Values, attributes: Mapping[str, Any] | None = None) -> StoredArray:
    """Describe an array that is in memory, or mapped to it."""
    return stored_array(tuple(values.shape), values.dtype, values.__getitem__, attributes)


def as_tensor(values: Values) -> Tensor:
    """A tensor that shares its memory with ``values`` where torch knows their byte order."""
    if isinstance(values, Tensor):
        return values.detach()
    array = np.asarray(values)
    return torch.from_numpy(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))
