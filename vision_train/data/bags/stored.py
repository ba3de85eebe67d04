"""The arrays and attributes of a file of features, of any format, before its features are read."""

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
"""Names of the array of features: CLAM's and TRIDENT's, a common one, ACMIL's."""
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
    """Turn the exceptions that libraries raise on damaged files into a :class:`BadBagError`.

    Args:
        reason: Makes the message of an exception; None takes its first line.
    """
    try:
        yield
    except _DAMAGE as error:
        raise BadBagError(reason(error) if reason else f"damaged ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """First line of the message of an exception; the name of its class where it has no message."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0]


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in an open file."""

    shape: tuple[int, ...]
    """Shape without the leading axis of a stack of one: 1 N D counts as N D."""
    dtype: str
    """Name of the type, such as ``float16``."""
    read: Callable[[Rows], Values]
    """Reads rows, or the value of an array without axes. Raises :class:`BadBagError` if the file is damaged."""
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
            BadBagError: No array holds them, or several may.
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

        TRIDENT writes the word ``None`` for an attribute without a value.
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
        shape: Shape in the file.
        dtype: Type of NumPy or torch.
        at: Reads at an index, as ``__getitem__`` of an array, a tensor or an HDF5 data set does.
        attributes: Attributes of the array in the file.
    """
    stacked = len(shape) == 3 and shape[0] == 1

    def read(rows: Rows) -> Values:
        with damage_named():
            return at((0, rows) if stacked else rows if shape else ())

    name = str(getattr(dtype, "name", dtype)).removeprefix("torch.")
    return StoredArray(tuple(shape[1:] if stacked else shape), name, read, attributes or {})


def array_in_memory(values: Values, attributes: Mapping[str, Any] | None = None) -> StoredArray:
    """Describe an array that is in memory or mapped into it."""
    return stored_array(tuple(values.shape), values.dtype, values.__getitem__, attributes)


def as_tensor(values: Values) -> Tensor:
    """A tensor that shares its memory with ``values`` where torch knows their byte order."""
    if isinstance(values, Tensor):
        return values.detach()
    array = np.asarray(values)
    return torch.from_numpy(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))
