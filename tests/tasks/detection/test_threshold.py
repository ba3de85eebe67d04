"""The threshold of each class is where F1 is highest."""

import numpy as np
import pytest

from vision_train.tasks.detection.results import ImageResult
from vision_train.tasks.detection.threshold import best_thresholds

THERE, ELSEWHERE = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def result(found, truths) -> ImageResult:
    """Detections of (score, class, whether it hits), the likeliest first, beside objects of these classes."""
    boxes = [THERE if hits else ELSEWHERE for _, _, hits in found]
    return ImageResult(
        np.array([score for score, *_ in found], dtype=np.float64),
        np.array([label for _, label, _ in found], dtype=np.int64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(truths, dtype=np.int64),
        np.array([THERE] * len(truths), dtype=np.float64).reshape(-1, 4),
        np.zeros((0, 4)),
    )


def test_the_threshold_of_each_class_has_the_best_f1():
    results = {
        "a": result([(0.9, 0, True), (0.8, 1, False), (0.3, 1, True)], [0, 1]),
        "b": result([(0.6, 0, True), (0.5, 0, False), (0.4, 0, False)], [0]),
    }
    assert best_thresholds(results, ["x", "y"]) == pytest.approx([0.6, 0.3])


def test_detections_of_equal_probability_count_together():
    results = {"a": result([(0.9, 0, True)], [0]), "b": result([(0.5, 0, True), (0.5, 0, False), (0.5, 0, False)], [0])}
    # 0.9 alone: F1 2/3; all: 4/6. Of equal ones the higher.
    assert best_thresholds(results, ["x"]) == pytest.approx([0.9])


def test_a_class_of_which_nothing_is_found_takes_the_threshold_of_all():
    results = {"a": result([(0.7, 0, True), (0.6, 1, False)], [0])}
    assert best_thresholds(results, ["x", "y", "z"]) == pytest.approx([0.7, 0.7, 0.7])


def test_where_nothing_is_found_the_threshold_is_a_half():
    assert best_thresholds({"a": result([], [0])}, ["x", "y"]) == pytest.approx([0.5, 0.5])
    assert best_thresholds({"a": result([(0.2, 0, False)], [])}, ["x"]) == pytest.approx([0.5])
