"""From which score on a box is shown: the one at which F1 on the validation images is largest, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision_train.files import first_named
from vision_train.tasks.detection.hits import OVERLAPS, count_hits
from vision_train.tasks.detection.results import Numbers, Results

CLASSES, TOGETHER = "thresholds", "threshold"
"""What a checkpoint calls the thresholds by class, and the one of all classes together."""
UNKNOWN = 0.5
"""Threshold where no box on the validation images was right."""


def choose_thresholds(results: Results, classes: Sequence[str]) -> dict[str, Any]:
    """Choose on validation images, where a box is right from an IoU of 0.5 on.

    Args:
        results: Of the validation images.
        classes: Names of the classes.

    Returns:
        ``thresholds``: class -> score, of the classes of which a box was right; ``threshold``: the same of all classes
        together, absent where none was.
    """
    counted = [count_hits(result, OVERLAPS[:1]) for result in results.values()]
    scores, labels, hit = (np.concatenate([each[part] for each in counted] or [np.zeros(0)]) for part in range(3))
    objects = np.zeros(len(classes), dtype=int)
    for result in results.values():
        objects += np.bincount(result.true_labels, minlength=len(classes))
    right = hit.reshape(-1).astype(bool)
    chosen: dict[str, Any] = {CLASSES: {}}
    for index, name in enumerate(classes):
        of_class = labels == index
        if (best := best_threshold(scores[of_class], right[of_class], int(objects[index]))) is not None:
            chosen[CLASSES][name] = best
    if (best := best_threshold(scores, right, int(objects.sum()))) is not None:
        chosen[TOGETHER] = best
    return chosen


def best_threshold(scores: Numbers, right: np.ndarray, objects: int) -> float | None:
    """The score from which on F1 = 2 * hits / (boxes + objects) is largest; None where no box is right.

    It lies midway between the last score that is taken and the first that is not.

    Args:
        scores: n.
        right: n, whether each box hits an object.
        objects: What is there to be found.
    """
    if not right.any():
        return None
    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], np.cumsum(right[order])
    f1 = 2 * hits / (np.arange(1, len(falling) + 1) + objects)
    f1[:-1][falling[:-1] == falling[1:]] = -1  # boxes of one score are taken together
    last = int(f1.argmax())
    following = falling[last + 1] if last + 1 < len(falling) else falling[last]
    return float((falling[last] + following) / 2)


def limits(calibration: Mapping[str, Any], classes: Sequence[str], asked: float | None) -> Numbers:
    """The score from which on a box of each class is shown.

    Args:
        calibration: What :func:`choose_thresholds` returned; empty where nothing was chosen.
        classes: Names of the classes.
        asked: The one score that the user asks for instead.
    """
    if asked is not None:
        return np.full(len(classes), asked)
    own = calibration.get(CLASSES, {})
    return np.array([own.get(name, calibration.get(TOGETHER, UNKNOWN)) for name in classes], dtype=np.float64)


def told(calibration: Mapping[str, Any], classes: Sequence[str], asked: float | None) -> str:
    """The thresholds and where they come from, as one sentence."""
    other = "method.threshold=SCORE sets another"
    if asked is not None:
        return f"boxes are shown from a score of {asked:g} on (method.threshold)"
    if TOGETHER not in calibration:
        why = "not one box on the validation images was right" if calibration else "no validation chose one"
        return (
            f"boxes are shown from a score of {UNKNOWN:g} on, which nothing speaks for: {why} when these weights were "
            f"saved; {other}"
        )
    own = calibration[CLASSES]
    listed = first_named([f"{name} {own[name]:.2f}" for name in classes if name in own])
    rest = [name for name in classes if name not in own]
    borrowed = f"; of {first_named(rest)} no box was right there, so they take that of all classes" if rest else ""
    return (
        f"boxes are shown from the score on at which F1 on the validation images is largest: {listed}, all classes "
        f"together {calibration[TOGETHER]:.2f}{borrowed}; {other}"
    )


def counted_from(calibration: Mapping[str, Any], asked: float | None) -> str:
    """Which detections count in a report, as a sentence."""
    if asked is not None:
        return f"A detection counts from a score of {asked:g} on (method.threshold)."
    if TOGETHER not in calibration:
        return f"A detection counts from a score of {UNKNOWN:g} on: no box was right on the validation images."
    return (
        "A detection counts if its score reaches the threshold of its class, where F1 on the validation images is best."
    )
