"""What kinds of data share whose samples are images: the parts of :class:`vision_train.data.kind.Implementation`."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from augment.geometry import View
from vision_train.checkpoints import Weights
from vision_train.data.dataset import SampleLoader, sample_loader
from vision_train.data.dim_images import dim_images
from vision_train.data.folders import IMAGE_ENDINGS, refuse_output
from vision_train.data.image_dataset import ImageDataset, eval_transform, original_pixels
from vision_train.data.image_section import ImageSection
from vision_train.data.image_tables import listed_files
from vision_train.data.module import SampleDataModule
from vision_train.data.sample import ImageSample
from vision_train.data.sampler import EvaluationSampler
from vision_train.data.sources import list_images_in
from vision_train.errors import UserError
from vision_train.files import printable, unescape_name
from vision_train.recipe.recipe import Recipe

LIST = ".txt"
"""Ending of a list of images, one path a line, which is read line by line and may be longer than memory."""
Taken = Callable[[str], bool]
"""Whether an image, by its path as given, is in the share that is asked for."""


def loose(recipe: Recipe, inputs: Sequence[Path], *, learner: str, taken: Taken | None = None) -> SampleLoader:
    """Load images with the evaluation transforms, without the data set that the recipe trained on.

    Args:
        recipe: Batch size, workers, image size, policy for bad images and normalisation.
        inputs: Image files, folders that are searched through, csv files with a ``path`` column, text files with one
            path a line.
        learner: What messages call the network.
        taken: Chooses a share of the images, which may be empty; None takes all.

    Returns:
        Loader of batches without truth; an image's id is its path as given. ``loader.dataset.skipped`` maps the
        unreadable files met to the reasons, and ``loader.dataset.notes`` says what was left out.

    Raises:
        UserError: As :func:`list_images`.
    """
    section: ImageSection = recipe.data
    paths, notes = list_images(inputs, taken)
    samples = [ImageSample(path, path) for path in paths]
    dataset = ImageDataset(samples, eval_transform(section, recipe.augment), 0, section.on_bad)
    dataset.notes += [*notes, *dim_images(paths)]
    return sample_loader(dataset, EvaluationSampler(len(dataset)), section.batch_size, section.workers)


def image_transform(recipe: Recipe) -> Callable[[NDArray[np.uint8]], Tensor]:
    """Pixels to what the network takes, as in validation; as :meth:`vision_train.data.kind.Implementation`."""
    transform = eval_transform(recipe.data, recipe.augment)
    return lambda pixels: transform(View.whole(pixels), 0).image


def picture_sources(
    samples: Sequence[ImageSample], section: ImageSection, images: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """What pictures of images are drawn from: the pixels of each, read when they are drawn.

    Raises:
        UserError: A folder of images is named, which is for other kinds of data.
    """
    if images is not None:
        raise UserError(f"--images {images}: the samples of this run are images themselves; leave it out")
    return {"originals": {sample.id: partial(original_pixels, sample) for sample in samples}}, []


def check_start(recipe: Recipe, weights: Weights, name: str, data: SampleDataModule) -> list[str]:
    """Accept any weights: images can be learned from any start."""
    return []


def list_images(inputs: Sequence[Path], taken: Taken | None = None) -> tuple[list[str], list[str]]:
    """Every image that the inputs name, in order, each once, and what the user should know of them.

    Args:
        inputs: As for :func:`loose`.
        taken: Keeps no other images in memory; None keeps all.

    Raises:
        UserError: An input or a file that a csv lists does not exist, a csv has no ``path`` column, or there is no
            image at all, in this share or another.
    """
    found: dict[str, None] = {}
    notes: list[str] = []
    counted = _Counted(taken)
    for entry in inputs:
        images, remarks = _images_of(entry, counted)
        found |= dict.fromkeys(map(str, images))
        notes += [f"{printable(str(entry))}: {remark}" for remark in remarks]
    if not counted.any:
        shown = ", ".join(printable(str(entry)) for entry in inputs)
        endings = f"no images there; known endings are {' '.join(sorted(IMAGE_ENDINGS))}"
        raise UserError("; ".join([f"{shown}: {endings}", *notes]))
    return [*found], notes


class _Counted:
    """Asks whether images are taken, and remembers whether there was any."""

    def __init__(self, taken: Taken | None) -> None:
        self._taken = taken
        self.any = False

    def __call__(self, path: str) -> bool:
        self.any = True
        return self._taken is None or self._taken(path)


def _images_of(entry: Path, taken: _Counted) -> tuple[Iterable[Path | str], list[str]]:
    if entry.is_dir():
        listing = list_images_in(entry)
        return listing.below(entry, set(), taken), listing.notes()
    if not entry.exists():
        raise UserError(f"{printable(str(entry))}: no such image, folder, csv file or list")
    if entry.suffix.lower() == LIST:
        return _lines_of(entry, taken), []
    if entry.suffix.lower() == ".csv":
        files, notes = listed_files(entry, None)
        return [path for file in files if taken(str(path := entry.parent / file.name))], notes
    refuse_output(entry)
    return [entry] if taken(str(entry)) else [], []


def _lines_of(file: Path, taken: _Counted) -> Iterator[str]:
    """Paths of a list, relative to its folder, read line by line; whether they are there is seen when they are read."""
    beside = "" if file.parent == Path() else f"{file.parent}{os.sep}"
    with file.open("rb") as start:
        if start.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise UserError(f"{printable(str(file))}: is text in UTF-16; save it in UTF-8")
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        for line in lines:  # of a hundred million: no object of a path is made
            name = line.rstrip("\r\n")
            name = unescape_name(name) if "\\" in name else name
            if name.strip() and taken(path := name if os.path.isabs(name) else beside + name):  # noqa: PTH117
                yield path
