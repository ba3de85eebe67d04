"""Bags of scanned digits: a small benchmark of multiple-instance learning on real images.

Scikit-learn's 1,797 scans (8 x 8 pixels) are divided into pools for training, validation and testing; a bag draws its
digits from one pool, with repetition. Negative and positive bags alternate.

- ``rare``: about 100 digits. Three in a hundred of a positive bag are nines; a negative bag holds none.
- ``patterns``: about 200 digits. Ten in a hundred of a positive bag are patterns, which are zeros, fives and nines. In
  training and validation most of them are zeros, a short cut; a test bag holds one of the three patterns only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import NDArray

from vision_train.data.bags.bag import Bag
from vision_train.data.bags.samples import BagSample
from vision_train.data.bags.stored import StoredBag, array_in_memory
from vision_train.data.bags.tools.writing import write_bag
from vision_train.errors import UserError
from vision_train.files import refuse_full, write_text

Variant = Literal["rare", "patterns"]

BAGS = {"train": 100, "val": 60, "test": 200}
PATTERNS = (0, 5, 9)
SIDE = 8
"""Side of a scan, in pixels."""
ENCODER = "pixels"
"""Name of the encoder in the files."""
FEATURES_FOLDER = f"1x_{SIDE}px_0px_overlap/features_{ENCODER}"
"""Folder of the features in TRIDENT's layout."""


@dataclass(frozen=True, slots=True)
class DigitBag:
    """One bag of scans."""

    id: str
    split: str
    label: str
    """`1` for a positive bag, `0` for a negative one."""
    scans: NDArray[np.int64]
    """Places in scikit-learn's list of scans, N."""
    witnesses: NDArray[np.bool_]
    """Whether a scan makes the bag positive, N."""


def digit_bags(variant: Variant, seed: int) -> list[DigitBag]:
    """Draw the bags of training (100), validation (60) and testing (200).

    Args:
        variant: ``rare`` or ``patterns``.
        seed: Seed of the random bags. The pools are the same for all seeds.
    """
    bags = []
    for offset, (split, count) in enumerate(BAGS.items()):
        random = RandomState(1000 * seed + offset)
        pool = _pools()[split]
        for number in range(count):
            positive = number % 2 == 1
            witnesses, others = _digits(random, variant, split == "test", positive)
            scans = np.array([pool[digit][random.randint(len(pool[digit]))] for digit in witnesses + others])
            order = random.permutation(len(scans))
            is_witness = np.arange(len(scans)) < len(witnesses)
            bags.append(DigitBag(f"{split}_{number:03d}", split, str(int(positive)), scans[order], is_witness[order]))
    return bags


def digit_bag_samples(variant: Variant, seed: int) -> list[BagSample]:
    """Draw the bags and hold them in memory, ready for training.

    The features of a scan are its 64 pixels in [0, 1], its coordinates a place in a square. The ids of bags name the
    variant and the seed.
    """
    pixels = _pixels()
    return [
        BagSample(
            f"{variant}_{seed}_{bag.id}",
            Bag(torch.from_numpy(pixels[bag.scans]), torch.from_numpy(_square(len(bag.scans))), SIDE, ENCODER),
            bag.label,
            split=bag.split,
        )
        for bag in digit_bags(variant, seed)
    ]


def make_digit_bags(folder: Path, variant: Variant, seed: int = 0) -> dict[str, int]:
    """Write the bags in TRIDENT's layout, with CLAM's tables ``labels.csv`` and ``splits_0.csv``.

    Args:
        folder: Folder to write to; it is created. An existing folder must be empty.
        variant: ``rare`` or ``patterns``.
        seed: Seed of the random bags.

    Returns:
        Number of bags of each split.

    Raises:
        UserError: ``folder`` is not an empty folder, or it cannot be written, or h5py is missing.
    """
    refuse_full(folder)
    bags = digit_bags(variant, seed)
    features = folder / FEATURES_FOLDER
    try:
        features.mkdir(parents=True)
        for bag in bags:
            write_bag(features / f"{bag.id}.h5", _stored(bag))
        rows = [f"{number},{bag.id},{bag.id},{bag.label}\n" for number, bag in enumerate(bags)]
        write_text(folder / "labels.csv", "".join([",case_id,slide_id,label\n", *rows]))
        write_text(folder / "splits_0.csv", _splits_csv(bags))
    except OSError as error:
        raise UserError(f"cannot write digit bags to {folder}: {error.strerror}") from error
    return dict(BAGS)


def _digits(random: RandomState, variant: Variant, testing: bool, positive: bool) -> tuple[list[int], list[int]]:
    """Digits that make one bag positive, and its other digits."""
    mean, deviation = (100, 20) if variant == "rare" else (200, 40)
    size = max(10, round(random.normal(mean, deviation)))
    negatives = [digit for digit in range(10) if digit not in ((9,) if variant == "rare" else PATTERNS)]
    witnesses: list[int] = []
    if positive and variant == "rare":
        witnesses = [9] * max(1, round(0.03 * size))
    elif positive:
        count = max(3, round(0.1 * size))
        few = max(1, round(0.1 * count))
        mixture = [5] * few + [9] * few + [0] * (count - 2 * few)
        witnesses = [PATTERNS[random.randint(3)]] * count if testing else mixture
    drawn = random.randint(0, len(negatives), size - len(witnesses))
    return witnesses, [negatives[place] for place in drawn]


@cache
def _pools() -> dict[str, list[NDArray[np.int64]]]:
    """Scans of each split by digit: three fifths for training, a fifth for validation and the rest for testing."""
    from sklearn.datasets import load_digits

    target = load_digits().target
    random = RandomState(0)
    pools: dict[str, list[NDArray[np.int64]]] = {split: [] for split in BAGS}
    for digit in range(10):
        scans = random.permutation(np.flatnonzero(target == digit))
        parts = np.split(scans, [round(0.6 * len(scans)), round(0.8 * len(scans))])
        for pool, part in zip(pools.values(), parts, strict=True):
            pool.append(part)
    return pools


@cache
def _pixels() -> NDArray[np.float32]:
    """Scans x 64, in [0, 1]."""
    from sklearn.datasets import load_digits

    return (load_digits().data / 16).astype(np.float32)


def _square(size: int) -> NDArray[np.int64]:
    """Corners of scans in a square, row by row: x and y in pixels, N 2."""
    rows, columns = np.divmod(np.arange(size), math.ceil(math.sqrt(size)))
    return np.stack([columns, rows], axis=1) * SIDE


def _stored(bag: DigitBag) -> StoredBag:
    patching = {"patch_size": SIDE, "patch_size_level0": SIDE, "overlap": 0, "name": bag.id}
    return StoredBag(
        {
            "features": array_in_memory(_pixels()[bag.scans], {"name": bag.id, "encoder": ENCODER}),
            "coords": array_in_memory(_square(len(bag.scans)), patching),
            "witnesses": array_in_memory(bag.witnesses),
        }
    )


def _splits_csv(bags: list[DigitBag]) -> str:
    columns = [[bag.id for bag in bags if bag.split == split] for split in BAGS]
    rows = (",".join([str(number), *row]) for number, row in enumerate(zip_longest(*columns, fillvalue="")))
    return "\n".join([f",{','.join(BAGS)}", *rows]) + "\n"
