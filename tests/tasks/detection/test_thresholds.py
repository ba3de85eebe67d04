"""Thresholds of scores: where F1 on validation images is largest."""

import numpy as np
import pytest

from vision_train.tasks.detection.results import ImageResult
from vision_train.tasks.detection.thresholds import (
    best_threshold,
    choose_cuts,
    choose_thresholds,
    judge_teacher,
    limits,
    told,
)

BOX, FAR = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def result(found: list[tuple[float, int, list[float]]], truth: list[tuple[int, list[float]]]) -> ImageResult:
    return ImageResult(
        np.array([score for score, _, _ in found]),
        np.array([label for _, label, _ in found], dtype=np.int64),
        np.array([box for *_, box in found], dtype=float).reshape(-1, 4),
        np.array([label for label, _ in truth], dtype=np.int64),
        np.array([box for _, box in truth], dtype=float).reshape(-1, 4),
        np.zeros((0, 4)),
    )


def f1(scores: np.ndarray, right: np.ndarray, objects: int, least: float) -> float:
    taken = scores >= least
    return 2 * right[taken].sum() / (taken.sum() + objects)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_score_has_a_larger_f1(seed):
    random = np.random.default_rng(seed)
    scores = random.random(200).round(2)  # with ties
    right = random.random(200) < scores * 0.7
    objects = int(right.sum()) + 20
    chosen = best_threshold(scores, right, objects)
    assert f1(scores, right, objects, chosen) == max(f1(scores, right, objects, each) for each in np.unique(scores))


def test_it_lies_between_what_is_taken_and_what_is_not():
    assert best_threshold(np.array([0.9, 0.5, 0.2]), np.array([True, True, False]), 2) == pytest.approx(0.35)
    assert best_threshold(np.array([0.9, 0.5]), np.array([True, True]), 2) == 0.5
    assert best_threshold(np.array([0.9]), np.array([False]), 2) is None
    assert best_threshold(np.zeros(0), np.zeros(0, dtype=bool), 0) is None


def test_each_class_has_its_own_and_one_without_objects_takes_that_of_all():
    classes = ["cat", "dog", "owl"]
    results = {
        "a": result([(0.9, 0, BOX), (0.3, 0, FAR), (0.2, 1, FAR)], [(0, BOX), (1, FAR)]),
        "b": result([(0.8, 2, BOX), (0.1, 1, BOX)], []),
    }
    chosen = choose_thresholds(results, classes)
    assert chosen["thresholds"] == {"cat": pytest.approx(0.6), "dog": pytest.approx(0.15)}
    least = limits(chosen, classes, None)
    assert least[2] == chosen["threshold"]
    assert "owl" in (said := told(chosen, classes, None))
    for word in ("cat 0.60", "dog 0.15", "method.threshold", "validation"):
        assert word in said


def test_where_nothing_was_right_that_is_said():
    chosen = choose_thresholds({"a": result([(0.9, 0, FAR)], [(0, BOX)])}, ["cat"])
    assert chosen == {"thresholds": {}}
    assert limits(chosen, ["cat"], None).tolist() == [0.5]
    assert "not one box" in told(chosen, ["cat"], None)
    assert "no validation" in told({}, ["cat"], None)
    assert choose_thresholds({}, ["cat"]) == {"thresholds": {}}


def test_the_user_may_ask_for_another():
    assert limits({"thresholds": {"cat": 0.9}, "threshold": 0.9}, ["cat", "dog"], 0.25).tolist() == [0.25, 0.25]
    assert "0.25" in told({"thresholds": {"cat": 0.9}, "threshold": 0.9}, ["cat", "dog"], 0.25)


def test_pseudo_labels_are_cut_where_four_in_five_are_right_class_by_class():
    hits = [(0.9, 0, BOX), (0.65, 1, BOX), (0.6, 0, FAR)]
    results = {f"{number}": result(hits, [(0, BOX), (1, BOX), (2, FAR)]) for number in range(5)}
    cuts = choose_cuts(results, ["cat", "dog", "owl", "emu"])
    assert cuts == {"cat": 0.9, "dog": 0.65, "owl": 0.9}, "nothing of an owl is right, and nothing is known of an emu"
    assert choose_cuts({}, ["cat"]) == {}


def test_a_teacher_is_judged_by_the_boxes_it_would_take_and_by_f1():
    results = {
        "a": result([(0.9, 0, BOX), (0.8, 0, FAR)], [(0, BOX)]),
        "b": result([(0.7, 0, BOX)], [(0, BOX)]),
        "c": result([(0.1, 0, BOX)], []),
    }
    judged = judge_teacher(results, np.array([0.75]), np.array([0.5]))
    assert judged.estimate.accuracy == 0.5
    assert judged.estimate.images == 2
    f1s = [2 / 3, 1.0, 1.0]
    assert judged.score == pytest.approx(np.mean(f1s))
    assert judged.error == pytest.approx(np.std(f1s, ddof=1) / np.sqrt(3))
    nothing = judge_teacher(results, np.array([0.95]), np.array([0.95]))
    assert nothing.estimate is None
    assert np.isnan(judge_teacher({}, np.array([0.5]), np.array([0.5])).score)
