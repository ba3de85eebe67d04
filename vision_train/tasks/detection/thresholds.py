"""From which score on a box is shown, or taken for an object of an unlabelled image: chosen on the validation images.

A box is shown from the score on at which F1 is largest, class by class. Pseudo-labels have to be right rather than
complete: a box becomes one from the lowest score on at which four in five are right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from vision_train.semi.boxes import precise_cut
from vision_train.semi.health import Estimate, estimated_accuracy
from vision_train.tasks.detection.hits import OVERLAPS, count_hits
from vision_train.tasks.detection.results import ImageResult, Numbers, Results
from vision_train.wording import first_named

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
    scores, labels, right = _together(results)
    objects = _objects(results, len(classes))
    chosen: dict[str, Any] = {CLASSES: {}}
    for index, name in enumerate(classes):
        of_class = labels == index
        if (best := best_threshold(scores[of_class], right[of_class], int(objects[index]))) is not None:
            chosen[CLASSES][name] = best
    if (best := best_threshold(scores, right, int(objects.sum()))) is not None:
        chosen[TOGETHER] = best
    return chosen


def choose_cuts(results: Results, classes: Sequence[str]) -> dict[str, float]:
    """The score from which on a box is taken for an object of an unlabelled image.

    Args:
        results: Of the validation images.
        classes: Names of the classes.

    Returns:
        Class -> score, of the classes that validation images show.
    """
    scores, labels, right = _together(results)
    objects = _objects(results, len(classes))
    return {
        name: precise_cut(scores[labels == index], right[labels == index])
        for index, name in enumerate(classes)
        if objects[index]
    }


def objects_of_image(results: Results) -> float:
    """Objects of an image on average; NaN without images."""
    counts = [len(result.true_labels) for result in results.values()]
    return sum(counts) / len(counts) if counts else math.nan


class Teacher(NamedTuple):
    """What validation images say of a network as a teacher."""

    estimate: Estimate | None
    """How many of the boxes that it would take for objects are right; None where it takes none."""
    score: float
    """F1 of an image, by the thresholds at which boxes are shown, on average; NaN without images."""
    error: float
    """Standard error of that mean."""


def judge_teacher(results: Results, cuts: Numbers, shown_from: Numbers) -> Teacher:
    """Judge a network as a teacher. AP has no standard error that is cheap; the mean of images has one.

    Args:
        results: Of the validation images.
        cuts: C, the score from which on a box is taken for an object of an unlabelled image.
        shown_from: C, the score from which on it is shown.
    """
    scores, labels, right = _together(results)
    taken = scores >= cuts[labels.astype(int)]
    estimate = estimated_accuracy(torch.from_numpy(taken).float(), torch.from_numpy(right))
    images = np.array([_f1(result, shown_from) for result in results.values()])
    if not len(images):
        return Teacher(estimate, math.nan, math.nan)
    error = images.std(ddof=1) / math.sqrt(len(images)) if len(images) > 1 else math.nan
    return Teacher(estimate, float(images.mean()), float(error))


def _f1(result: ImageResult, shown_from: Numbers) -> float:
    """2 * hits / (boxes + objects) of one image; 1 where there is nothing and nothing is found."""
    found = count_hits(result, OVERLAPS[:1])
    shown = found.scores >= shown_from[found.labels]
    both = int(shown.sum()) + len(result.true_labels)
    return 2 * int(found.hit[shown].sum()) / both if both else 1.0


def _together(results: Results) -> tuple[Numbers, np.ndarray, np.ndarray]:
    """Scores and classes of the detections in all images, and whether each hits an object."""
    counted = [count_hits(result, OVERLAPS[:1]) for result in results.values()]
    scores, labels, hit = (np.concatenate([each[part] for each in counted] or [np.zeros(0)]) for part in range(3))
    return scores, labels, hit.reshape(-1).astype(bool)


def _objects(results: Results, classes: int) -> np.ndarray:
    """Objects of each class in all images."""
    counts = [np.bincount(result.true_labels, minlength=classes) for result in results.values()]
    return np.sum([np.zeros(classes, dtype=int), *counts], axis=0)


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
