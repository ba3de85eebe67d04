"""Which detections hit an object, image by image, as COCO decides it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_train.tasks.detection.results import ImageResult, Numbers, areas

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""IoU from which a detection hits an object."""
MOST = 100
"""Detections of a class in an image that count."""


class Hits(NamedTuple):
    """The detections of an image that count at some overlap."""

    scores: Numbers
    """D, falling."""
    labels: NDArray[np.int64]
    """D."""
    hit: NDArray[np.bool_]
    """D x T, whether each hits an object at each overlap."""
    counted: NDArray[np.bool_]
    """D x T: whether it hits, or lies by a smaller share than that overlap in a region that is ignored."""


def count_hits(result: ImageResult, overlaps: Numbers = OVERLAPS) -> Hits:
    """Let each detection, the likeliest first, take the free object of its class that it overlaps most.

    Args:
        result: Of one image.
        overlaps: T, each an IoU from which a detection hits.
    """
    places = likeliest(result)
    same = result.labels[places][:, None] == result.true_labels
    shared = np.where(same, overlap(result.boxes[places], result.true_boxes), -1.0)
    hit = np.stack([take(shared, least) >= 0 for least in overlaps], axis=1)
    counts = hit | (ignored_share(result, places)[:, None] < overlaps)
    kept = counts.any(axis=1)
    return Hits(result.scores[places[kept]], result.labels[places[kept]], hit[kept], counts[kept])


def likeliest(result: ImageResult) -> NDArray[np.int64]:
    """Places of the ``MOST`` likeliest detections of each class, the likeliest of all first."""
    order = np.lexsort((-result.scores, result.labels))
    _, starts, counts = np.unique(result.labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, counts)
    kept = np.sort(order[rank < MOST])
    return kept[np.argsort(-result.scores[kept], kind="stable")]


def take(overlaps: np.ndarray, least: float) -> np.ndarray:
    """Let each detection in turn take the free object that it overlaps most, and at least so much.

    Args:
        overlaps: D x n, the likeliest detection first.
        least: Overlap that an object must have.

    Returns:
        The object of each detection, D; -1 where it takes none.
    """
    free = np.ones(overlaps.shape[1], dtype=bool)
    taken = np.full(len(overlaps), -1)
    for row in np.flatnonzero((overlaps >= least).any(axis=1)):
        left = np.where(free, overlaps[row], -1.0)
        if left.max() >= least:
            taken[row] = len(left) - 1 - int(left[::-1].argmax())  # of equal ones the last, as COCO does
            free[taken[row]] = False
    return taken


def overlap(first: Numbers, second: Numbers) -> np.ndarray:
    """IoU of all pairs of boxes, n x m."""
    inner = _intersection(first, second)
    union = areas(first)[:, None] + areas(second) - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def ignored_share(result: ImageResult, places: NDArray[np.int64]) -> np.ndarray:
    """The largest share of each detection that lies in one region where its class is ignored.

    Args:
        result: Of one image.
        places: D, of the detections.
    """
    if not len(result.ignored):
        return np.zeros(len(places))
    boxes, crowds = result.boxes[places], result.ignored_classes
    inner, area = _intersection(boxes, result.ignored), areas(boxes)[:, None]
    shares = np.divide(inner, area, out=np.zeros_like(inner), where=area > 0)
    excuses = (crowds < 0) | (crowds == result.labels[places][:, None])
    return np.asarray(np.where(excuses, shares, 0.0).max(axis=1))


def _intersection(first: Numbers, second: Numbers) -> np.ndarray:
    corner = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    return np.prod(np.clip(corner, 0, None), axis=-1)
