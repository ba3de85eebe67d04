"""One bag: its entry in an index, and its features and coordinates in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vision_train.data.bags.formats import open_bag
from vision_train.data.bags.stored import COORDS, LABEL, BadBagError, StoredArray, StoredBag, as_tensor, damage_named

FEATURE_DTYPES = ("float16", "bfloat16", "float32", "float64")
COORDS_DTYPES = ("int16", "int32", "int64", "uint16", "uint32", "uint64", "float32", "float64")
"""Types of coordinates. Floating-point coordinates must be whole numbers."""


@dataclass(frozen=True, slots=True)
class Bag:
    """The content of a bag."""

    features: Tensor
    """Features in the floating-point type of the file, all finite: N D, N at least 1."""
    coords: Tensor | None = None
    """x and y of each patch in pixels of level 0: N 2, int64."""
    patch_size_level0: int | None = None
    """Side of a patch in pixels of level 0."""
    encoder: str | None = None
    """Name of the network that computed the features; None where unknown."""


@dataclass(frozen=True, slots=True)
class BagEntry:
    """Facts about a bag that are known before its features are read."""

    id: str
    path: Path
    """File that holds the features."""
    group: str
    """Group of the file that holds the bag; empty for the only bag of a file."""
    instances: int
    width: int
    """Number of features of an instance."""
    dtype: str
    encoder: str | None = None
    """Name of the network that computed the features, from the file or its folder; None where neither says."""
    coords: Path | None = None
    """File that holds the coordinates: the same file, or CLAM's or TRIDENT's file of patches; None without any."""
    patch_size_level0: int | None = None
    level0_size: tuple[int, int] | None = None
    """Width and height of the slide in pixels of level 0."""
    label: str | None = None
    """Name of the class; None where the file does not say."""


def describe_bag(stored: StoredBag, path: Path, group: str, bag_id: str, folder_encoder: str | None) -> BagEntry:
    """Check what can be checked without reading features.

    Args:
        stored: The bag in an open file.
        path: Path of the file.
        group: Group of the bag in the file.
        bag_id: Id of the bag.
        folder_encoder: Encoder that the name of the folder gives; used where the file names none.

    Raises:
        BadBagError: The features are missing or no matrix of floating-point numbers with at least one row, or the
            coordinates are not as many.
    """
    features = stored.arrays[stored.features_name]
    if features.shape[:1] == (0,):
        raise BadBagError("empty: it has no instances")
    if len(features.shape) != 2 or not features.shape[1]:
        raise BadBagError(f"features of shape {features.shape}; a bag is a matrix, instances x features")
    if features.dtype not in FEATURE_DTYPES:
        raise BadBagError(f"features of type {features.dtype}; they must be one of {', '.join(FEATURE_DTYPES)}")
    instances, width = features.shape
    if COORDS in stored.arrays:
        check_coords(stored.arrays[COORDS], instances)
    encoder = stored.fact("encoder")
    return BagEntry(
        id=bag_id,
        path=path,
        group=group,
        instances=instances,
        width=width,
        dtype=features.dtype,
        encoder=folder_encoder if encoder is None else str(encoder),
        coords=path if COORDS in stored.arrays else None,
        patch_size_level0=patch_size_level0(stored),
        level0_size=level0_size(stored),
        label=_label(stored),
    )


def check_coords(coords: StoredArray, instances: int) -> None:
    """Check type and shape of coordinates without reading them.

    Raises:
        BadBagError: The coordinates are not two numbers for each instance.
    """
    if coords.dtype not in COORDS_DTYPES:
        raise BadBagError(f"coordinates of type {coords.dtype} instead of whole numbers")
    if coords.shape != (instances, 2):
        raise BadBagError(f"{instances} instances, but coordinates of shape {coords.shape}; each needs an x and a y")


@damage_named()
def patch_size_level0(stored: StoredBag) -> int | None:
    """Side of a patch in pixels of level 0, from TRIDENT's attribute or from CLAM's patch size and downsampling."""
    if (size := stored.fact("patch_size_level0")) is not None:
        return round(float(np.ravel(size)[0]))
    size, downsample = stored.fact("patch_size"), stored.fact("downsample")
    if size is None or downsample is None:
        return None
    return round(float(np.ravel(size)[0]) * float(np.ravel(downsample)[0]))  # of x and y; patches are square


@damage_named()
def level0_size(stored: StoredBag) -> tuple[int, int] | None:
    """Width and height of the slide in pixels of level 0, from TRIDENT's attributes."""
    width, height = (stored.fact(f"level0_{side}") for side in ("width", "height"))
    if width is None or height is None:
        return None
    size = round(float(np.ravel(width)[0])), round(float(np.ravel(height)[0]))
    return size if min(size) > 0 else None


@damage_named()
def _label(stored: StoredBag) -> str | None:
    value, array = stored.fact(LABEL), stored.arrays.get(LABEL)
    if value is None and array is not None and math.prod(array.shape) == 1:
        value = array.read(slice(None))
    if value is None or np.size(value) != 1:
        return None
    value = np.asarray(value).item()
    if isinstance(value, bytes):
        value = value.decode()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_bag(entry: BagEntry, *, coords: bool = True) -> Bag:
    """Read a bag from its file.

    Args:
        entry: Entry of the bag in an index.
        coords: Whether to read the coordinates too.

    Returns:
        The bag. Features that lie in one piece are mapped from the disk, not copied.

    Raises:
        UserError: The file is in HDF5, and h5py is not installed.
        BadBagError: The file has changed, is damaged or locked, or holds NaN or infinite values.
    """
    with open_bag(entry.path, entry.group) as stored:
        features = as_tensor(stored.arrays[stored.features_name].read(slice(None)))
        if tuple(features.shape) != (entry.instances, entry.width):
            raise BadBagError(f"has changed: it was {entry.instances} x {entry.width} when it was listed")
        places = _coords(stored) if coords and entry.coords == entry.path else None
    if coords and entry.coords not in (None, entry.path):
        with open_bag(entry.coords) as stored:
            places = _coords(stored)
    _check_finite(features)
    return Bag(features, places, entry.patch_size_level0, entry.encoder)


def _coords(stored: StoredBag) -> Tensor:
    values = as_tensor(stored.arrays[COORDS].read(slice(None)))
    coords = values.to(torch.int64)
    if values.is_floating_point() and not torch.equal(coords.to(values.dtype), values):
        raise BadBagError("coordinates that are not whole pixels of level 0")
    return coords


def _check_finite(features: Tensor) -> None:
    extremes = torch.stack(features.aminmax())  # NaN wins both; many times faster than isfinite of everything
    if not extremes.isfinite().all():
        bad = int((~features.isfinite()).any(dim=1).sum())
        raise BadBagError(f"NaN or infinite values in {bad} of {len(features)} instances")
