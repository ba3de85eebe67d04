"""What kinds of data share whose samples are images: the parts of :class:`vision_train.data.kind.Implementation`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vision_train.checkpoints import Weights
from vision_train.data.dataset import SampleLoader, sample_loader
from vision_train.data.decode import IMAGE_ENDINGS
from vision_train.data.image_dataset import ImageDataset, eval_transform, original_pixels
from vision_train.data.image_section import ImageSection
from vision_train.data.sample import ImageSample
from vision_train.data.sampler import EvaluationSampler
from vision_train.data.sources import images_below
from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe


def loose(recipe: Recipe, inputs: Sequence[Path], *, learner: str) -> SampleLoader:
    """Load images with the evaluation transforms, without the data set that the recipe trained on.

    Args:
        recipe: Batch size, workers, image size, policy for bad images and normalisation.
        inputs: Image files, folders that are searched through, csv files with a ``path`` column.
        learner: What messages call the network.

    Returns:
        Loader of batches without truth; an image's id is its path as given. ``loader.dataset.skipped`` maps the
        unreadable files met to the reasons.

    Raises:
        UserError: As :func:`list_images`.
    """
    section: ImageSection = recipe.data
    samples = [ImageSample(path, path) for path in list_images(inputs)]
    dataset = ImageDataset(samples, eval_transform(section, recipe.augment), 0, section.on_bad)
    return sample_loader(dataset, EvaluationSampler(len(dataset)), section.batch_size, section.workers)


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


def check_start(recipe: Recipe, weights: Weights, name: str) -> None:
    """Accept any weights: images can be learned from any start."""


def list_images(inputs: Sequence[Path]) -> list[str]:
    """Every image that the inputs name, in order, each once.

    Raises:
        UserError: An input or a file that a csv lists does not exist, a csv has no ``path`` column, or there is no
            image at all.
    """
    paths = list(dict.fromkeys(str(path) for entry in inputs for path in _images_of(entry)))
    if not paths:
        raise UserError(
            f"{', '.join(map(str, inputs))}: no images there; known endings are {' '.join(sorted(IMAGE_ENDINGS))}"
        )
    return paths


def _images_of(entry: Path) -> Iterator[Path]:
    if entry.is_dir():
        yield from sorted(images_below(entry))
    elif not entry.exists():
        raise UserError(f"{entry}: no such image, folder or csv file")
    elif entry.suffix.lower() == ".csv":
        yield from _images_in_table(entry)
    else:
        yield entry


def _images_in_table(table: Path) -> Iterator[Path]:
    for line, row in read_table(table).rows_with("path"):
        path = table.parent / row["path"]
        if not path.is_file():
            raise UserError(f"{table} line {line}: no file {path}. Paths are relative to {table.absolute().parent}")
        yield path
