"""Drawing few of the images with boxes."""

from __future__ import annotations

from collections.abc import Sequence

from vision_train.data.boxes import Section
from vision_train.data.boxes.annotations import BoxSample
from vision_train.data.divide import drawn_order
from vision_train.errors import UserError
from vision_train.wording import first_named


def few(train: Sequence[BoxSample], section: Section, classes: Sequence[str], seed: int) -> list[BoxSample]:
    """The training images that ``share``, ``labels_per_class`` and ``background`` leave.

    More images with the same seed contain fewer.

    Raises:
        UserError: Classes are on fewer images than asked for, or nothing is left.
    """
    left = list(train)
    if section.share < 1:
        count = max(1, round(section.share * len(left)))
        left = [left[place] for place in sorted(drawn_order(len(left), seed, "share of images")[:count])]
    if section.labels_per_class is not None:
        left = _so_many_of_each(left, section.labels_per_class, classes, seed)
    if section.background == "drop":
        left = [sample for sample in left if sample.truth.boxes]
    if not any(sample.truth.boxes for sample in left):
        raise UserError(
            f"{section.named()}: no training image has a box to learn from; raise data.share, or mend the annotations"
        )
    return left


def _so_many_of_each(train: list[BoxSample], count: int, classes: Sequence[str], seed: int) -> list[BoxSample]:
    """The first images in a drawn order of all, so many that show each class."""
    order = drawn_order(len(train), seed, "images of classes")
    holding: dict[str, list[int]] = {name: [] for name in classes}
    for place in order:
        for label in sorted(set(train[place].truth.labels)):
            holding[label].append(place)
    # A class that is on no image at all is told elsewhere; it cannot be drawn.
    scarce = [f"{name} ({len(places)})" for name, places in holding.items() if 0 < len(places) < count]
    if scarce:
        raise UserError(
            f"data.labels_per_class is {count}, but fewer training images show these classes: {first_named(scarce)}. "
            "Lower it, or set it to null to take all images"
        )
    return [train[place] for place in sorted({place for places in holding.values() for place in places[:count]})]
