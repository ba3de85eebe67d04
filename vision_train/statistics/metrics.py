"""Metrics that are no mean over items, recomputed in many resamples at once.

A statistic is a function ``(columns, counts) -> values``. ``columns`` holds N entries under each name, one for each
test item: a number, or a list of numbers. ``counts`` (R x N) says how often each item was drawn in each of R resamples.
The result has R values, NaN where the metric is not defined. A row of ones gives the metric of the items as they are.

Tasks register statistics of their own by name. A file holds the name alone, which is looked up here; it never leads to
an import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from scipy import sparse

Columns = Mapping[str, Sequence[Any]]
Statistic = Callable[[Columns, np.ndarray], np.ndarray]

CALIBRATION_BINS = 15
"""As in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017."""
RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO reads the precision."""

_registered: dict[str, Statistic] = {}


def statistic(name: str) -> Callable[[Statistic], Statistic]:
    """Register a function as the statistic of this name.

    Args:
        name: As ``artefacts.Recomputed`` names it.

    Raises:
        ValueError: Another function has the name.
    """

    def register(function: Statistic) -> Statistic:
        other = _registered.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (function.__module__, function.__qualname__):
            raise ValueError(f"statistic {name}: {other.__module__}.{other.__qualname__} is registered under this name")
        _registered[name] = function
        return function

    return register


def registered_statistic(name: str) -> Statistic:
    """The statistic of this name.

    Raises:
        ValueError: No imported module registers it.
    """
    if name not in _registered:
        raise ValueError(f"no statistic is called {name}; there are {', '.join(sorted(_registered))}")
    return _registered[name]


@statistic("mean")
def mean(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Mean of ``value``."""
    return counts @ np.asarray(columns["value"], dtype=np.float64) / counts.sum(axis=1)


@statistic("ratio_of_sums")
def ratio_of_sums(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Sum of ``numerator`` over the sum of ``denominator``; NaN where the latter is 0."""
    above, below = (counts @ np.asarray(columns[name], dtype=np.float64) for name in ("numerator", "denominator"))
    return divide(above, below)


@statistic("macro_auroc")
def macro_auroc(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, one class against the rest, averaged over the classes that are drawn.

    Ties count half. NaN where a single class is drawn.

    Args:
        columns: ``label``, a class index; ``probabilities``, C numbers.
        counts: R x N.
    """
    labels, scores = np.asarray(columns["label"], dtype=np.int64), np.asarray(columns["probabilities"], np.float64)
    return mean_of_defined([area_under_roc(scores[:, label], labels == label, counts) for label in np.unique(labels)])


def area_under_roc(scores: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Area under the ROC curve in each of R resamples; NaN where all that is drawn is of one side.

    Args:
        scores: N.
        positive: N, bool.
        counts: R x N.
    """
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    drawn, positive = counts[:, order], positive[order]
    positives = np.add.reduceat(drawn * positive, starts, axis=1)  # R x distinct scores
    negatives = np.add.reduceat(drawn * ~positive, starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return divide((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


@statistic("macro_f1")
def macro_f1(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """F1 of each class, averaged over the classes that are drawn as label or prediction.

    Args:
        columns: ``label`` and ``predicted``, class indices.
        counts: R x N.
    """
    labels, predicted = (np.asarray(columns[name], dtype=np.int64) for name in ("label", "predicted"))
    classes = np.union1d(labels, predicted)
    of_label, of_predicted = (_of_classes(each, classes) for each in (labels, predicted))
    hits, claims = _summed(of_label.multiply(of_predicted), counts), _summed(of_label + of_predicted, counts)
    return mean_of_defined(list(divide(2 * hits, claims).T))


@statistic("balanced_accuracy")
def balanced_accuracy(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Recall of each class, averaged over the classes that are drawn.

    Args:
        columns: ``label`` and ``predicted``, class indices.
        counts: R x N.
    """
    labels, predicted = (np.asarray(columns[name], dtype=np.int64) for name in ("label", "predicted"))
    of_class = _of_classes(labels, np.unique(labels))
    hits = _summed(of_class, counts * (labels == predicted))
    return mean_of_defined(list(divide(hits, _summed(of_class, counts)).T))


def _of_classes(labels: np.ndarray, classes: np.ndarray) -> sparse.csr_array:
    """Which class each item has, N x K, with a single entry a row: a thousand classes cost as much as two."""
    places = np.searchsorted(classes, labels)
    return sparse.csr_array((np.ones(len(labels)), (np.arange(len(labels)), places)), (len(labels), len(classes)))


def _summed(of_class: sparse.csr_array, counts: np.ndarray) -> np.ndarray:
    """Items of each class in each resample, R x K."""
    return np.asarray((of_class.T @ counts.T).T)


@statistic("calibration_error")
def calibration_error(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Expected calibration error over 15 bins of equal width.

    Args:
        columns: ``confidence`` in [0, 1]; ``correct``, 0 or 1.
        counts: R x N.
    """
    confidence, correct = (np.asarray(columns[name], dtype=np.float64) for name in ("confidence", "correct"))
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    # As in torchmetrics, a confidence of exactly 1 lies in a bin of its own.
    bins = np.searchsorted(edges, confidence, side="right") - 1
    # A bin's |accuracy - confidence| times its share of the items is the size of this sum over the number of items.
    gaps = (bins[:, None] == np.arange(len(edges))) * (correct - confidence)[:, None]
    return np.abs(counts @ gaps).sum(axis=1) / counts.sum(axis=1)


@statistic("average_precision")
def average_precision(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Average precision of detections as COCO defines it, averaged over classes and thresholds of overlap.

    Precision is made non-increasing and read at 101 recalls. Detections of equal score keep their order. Classes
    without a truth in a resample are left out; NaN where none has one.

    Args:
        columns: N images: ``score``, a list of a number for each detection; ``hit``, a list as long of 0 or 1, or of T
            such numbers, one for each threshold; ``truths``, the number of objects; with several classes also
            ``class_id``, a list of a class index for each detection, and ``truths`` a list of C numbers; where some
            detections lie in ignored regions also ``counted``, as ``hit``, 0 where one is no false alarm.
        counts: R x N.
    """
    image = np.repeat(np.arange(len(columns["score"])), [len(found) for found in columns["score"]])
    scores = np.fromiter(chain.from_iterable(columns["score"]), np.float64, len(image))
    hits = _flags(columns["hit"], len(image))  # D T
    counted = _flags(columns["counted"], len(image)) if "counted" in columns else np.ones_like(hits)
    truths = np.array(columns["truths"], dtype=np.float64).reshape(counts.shape[1], -1)  # N C
    class_ids = np.zeros(len(image))
    if "class_id" in columns:
        class_ids = np.fromiter(chain.from_iterable(columns["class_id"]), np.float64, len(image))
    of_class = []
    for index in range(truths.shape[1]):
        members = np.flatnonzero(class_ids == index)
        ordered = members[np.argsort(-scores[members], kind="stable")]
        drawn, wanted = counts[:, image[ordered]], counts @ truths[:, index]
        claimed = np.cumsum(drawn, axis=1)
        precisions = []
        for hit, counts_here in zip(hits[ordered].T, counted[ordered].T, strict=True):
            places = np.flatnonzero(hit)  # precision peaks at hits, so no other point is ever read
            taken = claimed if counts_here.all() else np.cumsum(drawn * counts_here, axis=1)
            precisions.append(_precision(drawn[:, places], taken[:, places], wanted))
        of_class.append(np.mean(precisions, axis=0))
    return mean_of_defined(of_class)


def _flags(column: Sequence[Any], detections: int) -> np.ndarray:
    """The flags of all detections, D x T."""
    flags = np.array(list(chain.from_iterable(column)), dtype=bool)
    return flags.reshape(detections, -1) if detections else np.empty((0, 1), dtype=bool)


def _precision(drawn: np.ndarray, claimed: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean precision at ``RECALLS`` in each of R resamples; NaN where nothing is wanted.

    Args:
        drawn: R x H, how often each of H hits was drawn, by falling score.
        claimed: R x H, detections drawn up to each hit.
        wanted: R, objects drawn.
    """
    found = np.cumsum(drawn, axis=1)
    precision = np.maximum.accumulate(divide(found, claimed, 0.0)[:, ::-1], axis=1)[:, ::-1]
    recall = divide(found, np.broadcast_to(wanted[:, None], found.shape))
    # Each recall is read at the first hit that reaches it; those that no hit reaches count as a precision of 0.
    reached = np.searchsorted(RECALLS, recall, side="right")
    read = (precision * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return np.where(wanted > 0, read, np.nan)


def divide(above: np.ndarray, below: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    """Quotients, and ``otherwise`` where the divisor is 0."""
    return np.divide(above, below, out=np.full(above.shape, otherwise), where=below != 0)


def mean_of_defined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the parts (R each) that are not NaN; NaN where all are."""
    stacked = np.array(parts)
    defined = ~np.isnan(stacked)
    return divide(np.where(defined, stacked, 0.0).sum(axis=0), defined.sum(axis=0))
