"""Which detections hit an object, image by image, as COCO decides it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vision_train.tasks.detection.results import ImageResult, Numbers, areas

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""IoU from which a detection hits an object."""
MOST = 100
"""Detections of a class in an image that count."""


def count_hits(result: ImageResult, overlaps: Numbers = OVERLAPS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Let each detection, the likeliest first, take the free object of its class that it overlaps most.

    Args:
        result: Of one image.
        overlaps: T, each an IoU from which a detection hits.

    Returns:
        Scores (D) and labels (D) of the detections that count, and whether each hits at each overlap (D x T). Those
        that hit nothing and lie by more than half in an ignored region do not count.
    """
    counted = likeliest(result)
    same = result.labels[counted][:, None] == result.true_labels
    shared = np.where(same, overlap(result.boxes[counted], result.true_boxes), -1.0)
    hit = np.stack([take(shared, least) >= 0 for least in overlaps], axis=1)
    excused = (ignored_share(result, counted) > 0.5) & ~hit.any(axis=1)
    return result.scores[counted][~excused], result.labels[counted][~excused], hit[~excused]


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
