"""Which detections hit an object, image by image, as COCO decides it."""

from __future__ import annotations

import numpy as np

from vision_train.tasks.detection.results import ImageResult, Numbers

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
    kept: list[np.ndarray] = []
    hit = np.zeros((len(result.scores), len(overlaps)), dtype=bool)
    for label in np.unique(result.labels):
        members = np.flatnonzero(result.labels == label)
        members = members[np.argsort(-result.scores[members], kind="stable")][:MOST]
        kept.append(members)
        wanted = result.true_boxes[result.true_labels == label]
        if not len(wanted):
            continue
        shared = overlap(result.boxes[members], wanted)
        for column, least in enumerate(overlaps):
            hit[members, column] = _take(shared, least)
    counted = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
    excused = (covered(result.boxes[counted], result.ignored) > 0.5) & ~hit[counted].any(axis=1)
    counted = counted[~excused]
    return result.scores[counted], result.labels[counted], hit[counted]


def _take(overlaps: np.ndarray, least: float) -> np.ndarray:
    """For each detection in turn, whether it finds a free object that it overlaps so much."""
    free = np.ones(overlaps.shape[1], dtype=bool)
    hit = np.zeros(len(overlaps), dtype=bool)
    for row, values in enumerate(overlaps):
        left = np.where(free, values, -1.0)
        if left.size and left.max() >= least:
            free[len(left) - 1 - int(left[::-1].argmax())] = False  # of equal ones the last, as COCO does
            hit[row] = True
    return hit


def overlap(first: Numbers, second: Numbers) -> np.ndarray:
    """IoU of all pairs of boxes, n x m."""
    inner = _intersection(first, second)
    union = _area(first)[:, None] + _area(second) - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def covered(boxes: Numbers, regions: Numbers) -> np.ndarray:
    """The largest share of each box that lies in one of the regions, n."""
    if not len(regions):
        return np.zeros(len(boxes))
    inner, area = _intersection(boxes, regions), _area(boxes)[:, None]
    return np.divide(inner, area, out=np.zeros_like(inner), where=area > 0).max(axis=1)


def _intersection(first: Numbers, second: Numbers) -> np.ndarray:
    corner = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    return np.prod(np.clip(corner, 0, None), axis=-1)


def _area(boxes: Numbers) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
