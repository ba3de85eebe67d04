"""Class folders of images: those of a bundled set, and random ones for trying out a recipe at small size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vision_train.data.sample import ImageSample
from vision_train.errors import UserError
from vision_train.files import refuse_full


def write_class_folders(samples: Sequence[ImageSample], folder: Path) -> dict[str, int]:
    """Write samples in memory as an image folder, ``folder/{train,val,test}/CLASS/NAME.png``.

    Args:
        samples: With ids ``SET/NAME``, and a split each.
        folder: Is created; must be empty where it exists.

    Returns:
        Images written to each split.

    Raises:
        UserError: ``folder`` is not an empty folder, or cannot be written.
    """
    refuse_full(folder)
    counts = {"train": 0, "val": 0, "test": 0}
    try:
        for sample in samples:
            name = sample.id.rpartition("/")[2]
            target = folder / str(sample.split) / str(sample.truth) / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(sample.image)).save(target)
            counts[str(sample.split)] += 1
    except OSError as error:
        raise UserError(f"cannot write images to {folder}: {error.strerror}") from error
    return counts


def make_image_folder(folder: Path, classes: int, per_class: int, size: tuple[int, int], seed: int = 0) -> list[Path]:
    """Write ``folder/class_K/NNNN.jpg`` and ``.png`` in turn: random, but smooth and grained as photographs.

    Args:
        folder: Is created.
        classes: Number of class folders.
        per_class: Images in each.
        size: Width and height in pixels.
        seed: Of the random pixels.

    Returns:
        The files written.
    """
    generator = np.random.default_rng(seed)
    written = []
    for label in range(classes):
        directory = folder / f"class_{label}"
        directory.mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            path = directory / f"{index:04d}.{'png' if index % 2 else 'jpg'}"
            natural_image(size, generator).save(path, quality=90)
            written.append(path)
    return written


def natural_image(size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    """A random image of ``size`` (width, height) with a photograph's mix of smooth areas and fine grain."""
    coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = generator.normal(0, 6, smooth.shape)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
