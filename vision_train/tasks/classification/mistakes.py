"""The worst mistakes of a pass over a split, as pictures for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from vision_train.artefacts import ImageGrid
from vision_train.previews import Pixels
from vision_train.tasks.gallery import Gallery

KEPT = 24
LONGEST_SIDE = 224
"""Pictures are shrunk to this, in pixels, before they are kept."""


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified image."""

    picture: Pixels
    caption: str


def wrong_rows(gallery: Gallery[Mistake], ids: Sequence[str], wrong: Tensor, loss: Tensor) -> list[int]:
    """Places in a batch of the images that are wrong and whose loss is among the highest.

    Args:
        gallery: The mistakes so far.
        ids: B.
        wrong: B, bool.
        loss: B.
    """
    return [row for row in wrong.nonzero().flatten().tolist() if gallery.wants(ids[row], -loss[row].item())]


def add_mistake(gallery: Gallery[Mistake], name: str, loss: float, caption: str, pixels: Pixels) -> None:
    """Keep a small picture of one mistake.

    Args:
        gallery: The mistakes so far.
        name: Id of the image.
        loss: Its loss.
        caption: What is wrong.
        pixels: H W 3.
    """
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    gallery.add(name, -loss, Mistake(np.asarray(picture), caption))


def mistakes_grid(gallery: Gallery[Mistake], split: str, note: str) -> ImageGrid:
    """The worst mistakes of all processes, worst first."""
    worst = gallery.gather()
    return ImageGrid(
        f"{split}_mistakes",
        f"Worst mistakes on {split}",
        images=[mistake.picture for mistake in worst.values()],
        captions=[f"{mistake.caption}\n{name}" for name, mistake in worst.items()],
        note=note,
    )
