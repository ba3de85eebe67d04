"""A detector that guesses: the boxes that it finds in an image fit other images as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vision_train.statistics.metrics import average_precision
from vision_train.tasks.chance import LEARN_MORE, too_few
from vision_train.tasks.detection.hits import count_hits
from vision_train.tasks.detection.results import ImageResult, Results
from vision_train.wording import count_of

EXCHANGES = 19
"""Times that images exchange what was found in them: of twenty values that are drawn alike, the first one is the
largest in one of twenty cases."""
FEWEST = 4
"""Images that can exchange it in twenty ways or more."""
MOST = 500
"""Images that are compared; of more, so many are drawn."""


def chance_warnings(results: Results, classes: int, split: str) -> list[str]:
    """Say whether the result could be that of a network that does not see the image.

    What it finds then has nothing to do with the image that it was found in, be it the same boxes everywhere or boxes
    at random. So AP at IoU 0.5 is measured again with the detections of images exchanged at random, as shares of their
    width and height. A network that sees has more than each of 19 such values; one that does not has more in one of
    twenty cases (a permutation test). An AP of 0 is that of guessing. Where the boxes of other images find everything,
    the images are too much alike for any detector to be told from guessing. Our choice.

    Args:
        results: Of the images that the run is judged by.
        classes: K.
        split: Name of their split.

    Returns:
        One sentence or none; none where there is no object.
    """
    draw, images = np.random.default_rng(0), [*results.values()]
    if len(images) > MOST:
        images = [images[place] for place in np.sort(draw.choice(len(images), MOST, replace=False))]
    own, best = _ap50(images, classes), 0.0
    if np.isnan(own):
        return []
    for _ in range(EXCHANGES):
        order = draw.permutation(len(images))
        best = max(best, _ap50([_found_in(images[a], images[b]) for a, b in enumerate(order)], classes))
    if own > best:
        return []
    telling = len(images) >= FEWEST and best < 1
    because = LEARN_MORE if telling else too_few(split, "more images, with objects in other places,")
    return [
        f"AP at IoU 0.5 is {own:.4f} on {count_of(len(images), 'images')} of {split}, and up to {best:.4f} with the "
        f"boxes of other images, so that it cannot be told from guessing. {because}"
    ]


def _found_in(image: ImageResult, other: ImageResult) -> ImageResult:
    """An image with what was found in another one, stretched to its size."""
    stretch = np.divide(image.size, other.size)[[1, 0, 1, 0]]
    return replace(image, scores=other.scores, labels=other.labels, boxes=other.boxes * stretch)


def _ap50(images: Sequence[ImageResult], classes: int) -> float:
    counted = [count_hits(each, np.array([0.5])) for each in images]
    columns: dict[str, Sequence[Any]] = {
        "score": [each.scores for each in counted],
        "class_id": [each.labels for each in counted],
        "hit": [each.hit[:, 0] for each in counted],
        "counted": [each.counted[:, 0] for each in counted],
        "truths": [np.bincount(each.true_labels, minlength=classes) for each in images],
    }
    return float(average_precision(columns, np.ones((1, len(images))))[0])
