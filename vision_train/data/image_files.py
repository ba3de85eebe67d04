"""What kinds of data share whose samples are images: the parts of :class:`vision_train.data.kind.Implementation`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from vision_train.files import printable
from vision_train.recipe.recipe import Recipe


def loose(recipe: Recipe, inputs: Sequence[Path], *, learner: str) -> SampleLoader:
    """Load images with the evaluation transforms, without the data set that the recipe trained on.

    Args:
        recipe: Batch size, workers, image size, policy for bad images and normalisation.
        inputs: Image files, folders that are searched through, csv files with a ``path`` column.
        learner: What messages call the network.

    Returns:
        Loader of batches without truth; an image's id is its path as given. ``loader.dataset.skipped`` maps the
        unreadable files met to the reasons, and ``loader.dataset.notes`` says what was left out.

    Raises:
        UserError: As :func:`list_images`.
    """
    section: ImageSection = recipe.data
    paths, notes = list_images(inputs)
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


def list_images(inputs: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Every image that the inputs name, in order, each once, and what the user should know of them.

    Raises:
        UserError: An input or a file that a csv lists does not exist, a csv has no ``path`` column, or there is no
            image at all.
    """
    found: dict[str, None] = {}
    notes: list[str] = []
    for entry in inputs:
        images, remarks = _images_of(entry)
        found |= dict.fromkeys(map(str, images))
        notes += [f"{printable(str(entry))}: {remark}" for remark in remarks]
    if not found:
        shown = ", ".join(printable(str(entry)) for entry in inputs)
        endings = f"no images there; known endings are {' '.join(sorted(IMAGE_ENDINGS))}"
        raise UserError("; ".join([f"{shown}: {endings}", *notes]))
    return [*found], notes


def _images_of(entry: Path) -> tuple[Sequence[Path | str], list[str]]:
    if entry.is_dir():
        listing = list_images_in(entry)
        return listing.below(entry, set()), listing.notes()
    if not entry.exists():
        raise UserError(f"{printable(str(entry))}: no such image, folder or csv file")
    if entry.suffix.lower() == ".csv":
        files, notes = listed_files(entry, None)
        return [entry.parent / file.name for file in files], notes
    refuse_output(entry)
    return [entry], []
