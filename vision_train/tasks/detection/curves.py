"""Curves of a pass of detection: precision by recall, how far scores can be trusted, sizes of boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision_train.artefacts import Curve
from vision_train.statistics.metrics import RECALLS
from vision_train.tasks.detection.errors import Judged, Verdict
from vision_train.tasks.detection.results import Results
from vision_train.tasks.detection.tables import Shown

TOGETHER = 6
"""Classes in a chart: as many lines can be told apart."""
BINS = 10
SIDES = 12
"""Steps of the sizes of boxes."""


def precision_curves(precision: np.ndarray, classes: Sequence[str], split: str) -> list[Curve]:
    """Precision by recall: the mean of the classes at three overlaps, and single classes at IoU 0.5.

    Args:
        precision: 10 x 101 x K, -1 where nothing is.
        classes: K class names.
        split: What was tested.
    """
    there = np.flatnonzero(precision[0, 0] > -1)
    if not there.size:
        return []
    means = {
        f"IoU {least:.2f}": precision[place][:, there].mean(1).tolist()
        for place, least in ((0, 0.5), (5, 0.75), (9, 0.95))
    }
    curves = [_by_recall(f"{split}_precision", f"Precision by recall on {split}, mean of classes", means)]
    by_ap50 = there[np.argsort(precision[0][:, there].mean(0), kind="stable")]
    for name, words, chosen in _groups(by_ap50):
        title = f"Precision by recall on {split} at IoU 0.5, {words}"
        lines = {f"{classes[index]} {precision[0][:, index].mean():.2f}": precision[0][:, index] for index in chosen}
        listed = {name: values.tolist() for name, values in lines.items()}
        curves.append(_by_recall(f"{split}_precision_{name}", title, listed, "Beside each class its AP50."))
    return curves


def _by_recall(name: str, title: str, lines: dict[str, list[float]], note: str = "") -> Curve:
    return Curve(name, title, "recall", "precision", RECALLS.tolist(), lines, note)


def _groups(ranked: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    """Classes whose curves are shown together, of ranked ones: all, or the worst and the best."""
    if len(ranked) < 2:
        return []
    if len(ranked) <= TOGETHER:
        return [("classes", "each class", ranked[::-1])]
    worst, others = ranked[:TOGETHER], ranked[TOGETHER:]
    best = others[-TOGETHER:][::-1]
    words = "the best classes" if len(others) > TOGETHER else "the other classes"
    return [("worst", f"the {TOGETHER} worst classes", worst), ("best", words, best)]


def score_curve(results: Results, judged: Sequence[Judged], split: str) -> list[Curve]:
    """The share of the detections of a score that hit an object; nothing where there is no detection.

    Args:
        results: The images.
        judged: All detections of each.
        split: What was tested.
    """
    listed = [
        (result.scores[each.places][~each.ignored], each.verdicts[~each.ignored] == Verdict.HIT)
        for result, each in zip(results.values(), judged, strict=True)
    ]
    scores, hits = (np.concatenate(parts) for parts in zip(*listed, strict=True))
    if not len(scores):
        return []
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    middles = (np.arange(BINS) + 0.5) / BINS
    shares = np.divide(np.bincount(bins, hits, BINS), counts, out=np.full(BINS, np.nan), where=counts > 0)
    filled = counts > 0
    even = "if scores were probabilities"
    lines = {"detections": shares[filled].tolist(), even: [0.0, 1.0]}
    note = "Right: hits an object at IoU 0.5. Bars: detections behind each point."
    title = f"Share of detections of {split} that are right"
    labels = "score", "share that is right"
    places, behind = {even: [0.0, 1.0]}, counts[filled].tolist()
    return [Curve(f"{split}_scores", title, *labels, middles[filled].tolist(), lines, note, places, behind)]


def size_curve(shown: Sequence[Shown], split: str) -> list[Curve]:
    """How many objects and detections there are of each size; nothing where there are neither."""
    boxes = {
        "objects": np.concatenate([np.zeros((0, 4)), *(each.result.true_boxes for each in shown)]),
        "detections": np.concatenate([np.zeros((0, 4)), *(each.result.boxes[each.counted] for each in shown)]),
    }
    sides = {name: np.sqrt(np.prod(each[:, 2:] - each[:, :2], axis=1)) for name, each in boxes.items()}
    largest = max((float(each.max()) for each in sides.values() if each.size), default=0.0)
    if not largest:
        return []
    edges = np.linspace(0, largest, SIDES + 1)
    lines = {name: np.histogram(each, edges)[0].astype(float).tolist() for name, each in sides.items()}
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    labels = "side in pixels, the square root of the area", "boxes"
    note = "Of detections, those that count."
    return [Curve(f"{split}_size_curve", f"Sizes of objects and detections of {split}", *labels, middles, lines, note)]
