"""The probability from which a detection is shown or counted: for each class the one with the best F1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision_train.tasks.detection.hits import count_hits
from vision_train.tasks.detection.results import ImageResult, Numbers, Results


def best_thresholds(results: Results, classes: Sequence[str]) -> Numbers:
    """The probability of each class at which F1, the harmonic mean of precision and recall at IoU 0.5, is highest.

    Args:
        results: Detections and truth of the images to choose on.
        classes: K class names.

    Returns:
        K probabilities: a detection of at least so much counts. A class of which nothing was found or nothing is there
        takes the threshold of all classes together; where nothing was found at all it is 0.5.
    """
    scores, labels, hits = (np.concatenate(parts) for parts in zip(*map(_found, results.values()), strict=True))
    truths = np.bincount(np.concatenate([each.true_labels for each in results.values()]), minlength=len(classes))
    together = _best(scores, hits, truths.sum())
    of_classes = [_best(scores[labels == label], hits[labels == label], truths[label]) for label in range(len(classes))]
    usual = 0.5 if together is None else together
    return np.array([usual if threshold is None else threshold for threshold in of_classes])


def _found(result: ImageResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, labels, hits = count_hits(result)
    return scores, labels, hits[:, 0]


def _best(scores: np.ndarray, hits: np.ndarray, truths: int) -> float | None:
    """The score at and above which F1 is highest; the highest such score. None where nothing is hit."""
    if not hits.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(hits[order])
    f1 = 2 * found / (np.arange(1, len(scores) + 1) + truths)
    last = np.append(scores[1:] < scores[:-1], True)  # detections of equal score count together
    return float(scores[np.where(last, f1, -1.0).argmax()])
