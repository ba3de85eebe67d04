"""The worst mistakes of a pass over a split, as pictures for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from vision_train.artefacts import ImageGrid
from vision_train.previews import Pixels
from vision_train.tasks.classification.scores import FIELDS
from vision_train.tasks.gallery import Gallery

KEPT = 24
LONGEST_SIDE = 224
"""Pictures are shrunk to this, in pixels, before they are kept."""


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified image."""

    picture: Pixels
    label: int
    predicted: int
    confidence: float


def wrong_rows(gallery: Gallery[Mistake], ids: Sequence[str], rows: Tensor) -> list[int]:
    """Places in a batch of the images that are wrong and whose loss is among the highest.

    Args:
        gallery: The mistakes so far.
        ids: B.
        rows: B x 5, columns as in ``FIELDS``.
    """
    label, predicted, loss = (rows[:, FIELDS.index(name)] for name in ("label", "predicted", "loss"))
    wrong = (label != predicted).nonzero().flatten().tolist()
    return [row for row in wrong if gallery.wants(ids[row], -loss[row].item())]


def add_mistake(gallery: Gallery[Mistake], name: str, row: Tensor, pixels: Pixels) -> None:
    """Keep a small picture of one mistake.

    Args:
        gallery: The mistakes so far.
        name: Id of the image.
        row: Its numbers, columns as in ``FIELDS``.
        pixels: H W 3.
    """
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    values = dict(zip(FIELDS, row.tolist(), strict=True))
    mistake = Mistake(np.asarray(picture), int(values["label"]), int(values["predicted"]), values["confidence"])
    gallery.add(name, -values["loss"], mistake)


def mistakes_grid(gallery: Gallery[Mistake], classes: Sequence[str], split: str) -> ImageGrid:
    """The worst mistakes of all processes, worst first."""
    worst = gallery.gather()
    captions = [
        f"{classes[mistake.label]}, taken for {classes[mistake.predicted]} ({mistake.confidence:.0%})\n{name}"
        for name, mistake in worst.items()
    ]
    return ImageGrid(
        f"{split}_mistakes",
        f"Worst mistakes on {split}",
        images=[mistake.picture for mistake in worst.values()],
        captions=captions,
        note="Wrong predictions with the highest loss: the true class, the predicted class, the confidence.",
    )
