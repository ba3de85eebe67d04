"""Metrics of items that bear any number of classes, recomputed in many resamples at once.

All are means over classes. A class counts where a resample holds what defines its metric: at least one item that bears
it, and for AUROC one that does not. An item of which nobody knows whether it bears a class is no item of that class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vision_train.statistics.metrics import Columns, area_under_roc, divide, mean_of_defined, statistic

UNKNOWN = -1
"""In ``targets``, a class of which nobody knows."""
OfClass = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(N numbers, N bool, R x N counts) -> R."""


def _mean_over_classes(columns: Columns, counts: np.ndarray, name: str, of_class: OfClass) -> np.ndarray:
    targets, numbers = np.asarray(columns["targets"]), np.asarray(columns[name], dtype=np.float64)
    found = []
    for target, number in zip(targets.T, numbers.T, strict=True):
        known = target != UNKNOWN
        found.append(of_class(number[known], target[known] == 1, counts[:, known]))
    return mean_of_defined(found)


@statistic("label_set_average_precision")
def label_set_average_precision(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Average precision of each class, averaged over the classes that an item bears (mAP).

    The precision at each threshold, weighed by the recall that it adds, as scikit-learn and torchmetrics define it.

    Args:
        columns: N items: ``probabilities``, C numbers; ``targets``, C numbers: 1, 0, or -1 for unknown.
        counts: R x N.
    """
    return _mean_over_classes(columns, counts, "probabilities", _average_precision)


def _average_precision(scores: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> np.ndarray:
    if not positive.any():
        return np.full(len(counts), np.nan)
    order = np.argsort(-scores, kind="stable")
    _, starts = np.unique(-scores[order], return_index=True)
    drawn = counts[:, order]
    hits = np.add.reduceat(drawn * positive[order], starts, axis=1)  # R x distinct scores
    precision = divide(np.cumsum(hits, axis=1), np.cumsum(np.add.reduceat(drawn, starts, axis=1), axis=1), 0.0)
    return divide((hits * precision).sum(axis=1), hits.sum(axis=1))


@statistic("label_set_auroc")
def label_set_auroc(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against its absence, averaged over the classes that have both.

    Args:
        columns: As for :func:`label_set_average_precision`.
        counts: R x N.
    """
    return _mean_over_classes(columns, counts, "probabilities", _auroc)


def _auroc(scores: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> np.ndarray:
    if positive.all() or not positive.any():
        return np.full(len(counts), np.nan)
    return area_under_roc(scores, positive, counts)


@statistic("label_set_f1")
def label_set_f1(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """F1 of each class, averaged over the classes that an item bears.

    Args:
        columns: N items: ``claimed``, C numbers, 1 where the class is claimed; ``targets``, C numbers as elsewhere.
        counts: R x N.
    """
    return _mean_over_classes(columns, counts, "claimed", _f1)


def _f1(claimed: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> np.ndarray:
    borne, hits = counts @ positive, counts @ (positive * claimed)
    return np.where(borne > 0, divide(2 * hits, borne + counts @ claimed), np.nan)
