"""The network of a run, ready for the caller's own code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_train.cli.console import loading
from vision_train.errors import UserError
from vision_train.progress import doing, shown_on

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console
    from torch import Tensor, nn


@dataclass(frozen=True)
class LoadedRun:
    """A trained network with what its inputs need."""

    network: nn.Module
    """In evaluation mode, on the CPU, with the run's best weights: the averaged ones if it has them."""
    transform: Callable[[Any], Tensor] | None
    """A PIL image or an array (H W 3, uint8) -> a normalised image (3 H W, float32), as in validation. None where the
    network takes no image, or not an image alone."""
    classes: list[str]
    """Names in the order of the outputs."""


def load_network(run: Path, console: Console) -> LoadedRun:
    """Build the network of a run and read its best weights.

    Args:
        run: A run directory.
        console: Where to report.

    Raises:
        UserError: There is no such run, or it has no weights yet.
    """
    from vision_train.run.directory import open_run
    from vision_train.run.inference import load_for_inference

    directory = open_run(run, with_weights=True)
    recipe = load_for_inference(directory.recipe)
    with shown_on(console):
        with loading(f"load {run}", shared=True):
            from models.lora import remove_adapters
            from vision_train.run.best_weights import load_best
            from vision_train.run.phase import build_task

        with doing(f"loading {recipe.model.name}"):
            classes = directory.read_classes()
            task = build_task(recipe, classes)
            remove_adapters(task.network)
            load_best(task, run)
    make = getattr(recipe.kind.load(), "image_transform", None)
    transform = None if make is None else _of_any_image(make(recipe))
    return LoadedRun(task.delivered(), transform, classes)


def picture_of(image: Any) -> Image.Image:
    """An RGB picture of an image in memory; a PIL image is turned upright and put on white as one of a file is.

    Raises:
        UserError: It is neither a PIL image nor an array (H W 3, uint8), or has values without a defined range.
    """
    import numpy as np
    from PIL import Image

    from vision_train.data.decode import BadImageError, pixels_of

    if 0 in getattr(image, "size" if isinstance(image, Image.Image) else "shape", ()):
        raise UserError("an image in memory has no pixels")
    if isinstance(image, Image.Image):
        try:
            return Image.fromarray(pixels_of(image))
        except BadImageError as error:
            raise UserError(f"an image in memory cannot be used: {error}") from error
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        found = f"shape {image.shape} and {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"an image is a PIL image or an array of H x W x 3 bytes (uint8), and this one is {found}")
    return Image.fromarray(image)


def _of_any_image(transform: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    import numpy as np

    return lambda image: transform(np.asarray(picture_of(image)))
