"""Small sets of images: drawn split by split, written as class folders or with a table, and random ones for trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import RandomState
from PIL import Image

from vision_train.data.sample import ImageSample
from vision_train.errors import UserError
from vision_train.files import refuse_full, write_text


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
    return _write_pictures(samples, folder, lambda sample: f"{sample.split}/{sample.truth}/{_name(sample)}.png")


def write_with_table(
    samples: Sequence[ImageSample], folder: Path, table: str, column: str, told: Callable[[Any], str]
) -> dict[str, int]:
    """Write samples in memory as ``folder/images/NAME.png``, with a csv of the columns path, ``column`` and split.

    Args:
        samples: As for :func:`write_class_folders`.
        folder: Is created; must be empty where it exists.
        table: Name of the csv in the folder.
        column: What the truth is called there.
        told: A truth as a cell.

    Returns:
        Images written to each split.

    Raises:
        UserError: As for :func:`write_class_folders`.
    """
    counts = _write_pictures(samples, folder, _beside_table)
    rows = [f"{_beside_table(sample)},{told(sample.truth)},{sample.split}" for sample in samples]
    try:
        write_text(folder / table, "\n".join([f"path,{column},split", *rows, ""]))
    except OSError as error:
        raise UserError(f"cannot write {folder / table}: {error.strerror}") from error
    return counts


def drawn_samples(
    counts: Mapping[str, int], draw: Callable[[str, int, RandomState], ImageSample]
) -> tuple[ImageSample, ...]:
    """Draw a set of pictures, each from a seed of its own that split and number give.

    Args:
        counts: Pictures of each split.
        draw: From split, number within it, and random numbers to a sample.
    """
    return tuple(
        draw(split, number, RandomState(10_000 * offset + number))
        for offset, (split, count) in enumerate(counts.items(), start=1)
        for number in range(count)
    )


def _write_pictures(
    samples: Sequence[ImageSample], folder: Path, place: Callable[[ImageSample], str]
) -> dict[str, int]:
    refuse_full(folder)
    counts = {"train": 0, "val": 0, "test": 0}
    try:
        for sample in samples:
            target = folder / place(sample)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(sample.image)).save(target)
            counts[str(sample.split)] += 1
    except OSError as error:
        raise UserError(f"cannot write images to {folder}: {error.strerror}") from error
    return counts


def _beside_table(sample: ImageSample) -> str:
    return f"images/{_name(sample)}.png"


def _name(sample: ImageSample) -> str:
    return sample.id.rpartition("/")[2]


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
