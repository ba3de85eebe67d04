"""Scikit-learn's bundled digits: 1,797 real scans of 8 x 8 pixels in ten classes.

The split is fixed (1,297 for training, 200 for validation, 300 for testing, stratified), whatever the seed of a run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vision_train.data.sample import ImageSample
from vision_train.data.toy.folder import write_class_folders

_SPLIT_SEED = 0


def digits_samples() -> list[ImageSample]:
    """The scans as grey pixels (8 8 3), in the order of scikit-learn, with ids ``digits/0000`` to ``digits/1796``."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    indices = np.arange(len(digits.target))
    rest, test = train_test_split(indices, test_size=300, stratify=digits.target, random_state=_SPLIT_SEED)
    _, val = train_test_split(rest, test_size=200, stratify=digits.target[rest], random_state=_SPLIT_SEED)
    split = dict.fromkeys(val.tolist(), "val") | dict.fromkeys(test.tolist(), "test")
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # the scans count 0 to 16
    pixels = np.repeat(grey[..., None], 3, axis=-1)
    return [
        ImageSample(f"digits/{index:04d}", pixels[index], str(digits.target[index]), split.get(index, "train"))
        for index in range(len(indices))
    ]


def make_digits(folder: Path) -> dict[str, int]:
    """Write the digits as an image folder: ``folder/{train,val,test}/{0..9}/NNNN.png``.

    Args:
        folder: Is created; must be empty where it exists.

    Returns:
        Images written to each split.

    Raises:
        UserError: ``folder`` is not an empty folder, or cannot be written.
    """
    return write_class_folders(digits_samples(), folder)
