"""What was found for each expression of a pass, what it means, and how well the two agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_train.artefacts import Metric
from vision_train.processes import gather_objects

Corners = NDArray[np.float64]
"""Left, top, right, bottom in pixels of the original image."""

ACCURACY = Metric("accuracy", "accuracy at IoU 0.5", "percent", is_proportion=True, shown="always")
"""Share of the expressions whose box overlaps the true one by an IoU of 0.5 or more, as the official code counts."""
ACCURACY_25 = Metric("accuracy_25", "accuracy at IoU 0.25", "percent", is_proportion=True)
ACCURACY_75 = Metric("accuracy_75", "accuracy at IoU 0.75", "percent", is_proportion=True)
MEAN_IOU = Metric("mean_iou", "mean IoU", shown="always", is_share=True)
METRICS = (ACCURACY, ACCURACY_25, ACCURACY_75, MEAN_IOU)
LEAST_IOU = {ACCURACY.name: 0.5, ACCURACY_25.name: 0.25, ACCURACY_75.name: 0.75}
"""Metric -> IoU from which on a box counts as found."""


@dataclass(frozen=True)
class PhraseResult:
    """One expression: the box that was found and the one that it means, both clipped to the image."""

    expression: str
    found: tuple[float, float, float, float]
    true: tuple[float, float, float, float]
    confidence: float
    """In (0, 1], of the quantised head; NaN without one."""
    group: str
    """The image, of which other expressions may be."""
    size: tuple[int, int]
    """Height and width of the image."""
    category: str = ""
    """What kind of object it is; empty where nothing says it."""

    @property
    def iou(self) -> float:
        """Intersection over union of both boxes."""
        return float(overlaps(np.array([self.found]), np.array([self.true]))[0])

    @property
    def words(self) -> int:
        """Length of the expression."""
        return len(self.expression.split())


Results = dict[str, PhraseResult]
"""Id of an expression -> its result, in the order of the ids."""


class ResultTable:
    """Collects the results of a pass in each process."""

    def __init__(self) -> None:
        self._results: Results = {}

    def add(self, ids: Sequence[str], results: Sequence[PhraseResult]) -> None:
        """Note a batch."""
        self._results |= dict(zip(ids, results, strict=True))

    def gather(self) -> Results:
        """The results of all processes, the same on each and every expression once. A collective call."""
        everyone = {name: result for part in gather_objects(self._results) for name, result in part.items()}
        return {name: everyone[name] for name in sorted(everyone)}


def overlaps(found: Corners, true: Corners) -> NDArray[np.float64]:
    """Intersection over union of boxes in pairs (n 4 each); 0 where both are empty."""
    sides = np.minimum(found[:, 2:], true[:, 2:]) - np.maximum(found[:, :2], true[:, :2])
    inner = sides.clip(min=0).prod(axis=1)
    union = sum((box[:, 2:] - box[:, :2]).clip(min=0).prod(axis=1) for box in (found, true)) - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def ious(results: Mapping[str, PhraseResult]) -> NDArray[np.float64]:
    """IoU of each expression, n."""
    if not results:
        return np.zeros(0)
    found, true = (np.array([getattr(each, name) for each in results.values()]) for name in ("found", "true"))
    return overlaps(found, true)


def true_shares(results: Mapping[str, PhraseResult]) -> NDArray[np.float64]:
    """The true boxes as shares of their images' width and height, n 4."""
    rows = [(*each.true, *each.size) for each in results.values()]
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return table[:, :4] / table[:, [5, 4, 5, 4]]


def values(results: Mapping[str, PhraseResult]) -> dict[str, list[float]]:
    """Metric -> what each expression adds to it; the metric is the mean."""
    found = ious(results)
    hits = {name: (found >= least).astype(float).tolist() for name, least in LEAST_IOU.items()}
    return {**hits, MEAN_IOU.name: found.tolist()}


def measure(results: Mapping[str, PhraseResult]) -> dict[str, float]:
    """The metrics of a pass; NaN of none."""
    return {name: float(np.mean(each)) if each else float("nan") for name, each in values(results).items()}
