"""Kinds of errors and their costs: equal to TIDE's own code, and right in cases that can be seen through."""

from dataclasses import replace

import numpy as np
import pytest

from vision_train.tasks.detection.errors import ERRORS, Verdict, costs, judge
from vision_train.tasks.detection.precision import measure

CLASSES = ["a", "b", "c", "d"]
NAMES = {
    Verdict.CLASS: "Cls",
    Verdict.PLACE: "Loc",
    Verdict.BOTH: "Both",
    Verdict.DOUBLE: "Dupe",
    Verdict.BACKGROUND: "Bkg",
    Verdict.MISSED: "Miss",
}


def costs_of(results, classes):
    return costs(results, [judge(result) for result in results.values()], classes)


def test_errors_and_their_costs_are_those_of_tide(tide, tide_results):
    found = costs_of(tide_results, CLASSES)
    assert list(found) == list(ERRORS) == list(NAMES)
    assert {NAMES[error]: cost.count for error, cost in found.items()} == tide["counts"]
    for error, cost in found.items():
        assert cost.ap50 == pytest.approx(tide["costs"][NAMES[error]], abs=1e-9), error
        assert cost.ap50 > 0  # the fixture has something of everything


def test_costs_are_gained_above_the_ap50_beside_them(tide, tide_results):
    assert measure(tide_results, CLASSES)["ap50"] == pytest.approx(tide["ap50"], abs=1e-9)


@pytest.mark.parametrize(
    ("found", "truth", "verdicts", "missed"),
    [
        ([(0.9, 0, 0, 10)], [(0, 0, 10)], [Verdict.HIT], 0),
        ([(0.9, 0, 0, 10), (0.8, 0, 1, 11)], [(0, 0, 10)], [Verdict.HIT, Verdict.DOUBLE], 0),
        ([(0.9, 1, 0, 10)], [(0, 0, 10)], [Verdict.CLASS], 0),
        ([(0.9, 0, 6, 16)], [(0, 0, 10)], [Verdict.PLACE], 0),
        ([(0.9, 1, 6, 16)], [(0, 0, 10)], [Verdict.BOTH], 1),
        ([(0.9, 0, 40, 50)], [(0, 0, 10)], [Verdict.BACKGROUND], 1),
        ([(0.9, 0, 40, 50)], [], [Verdict.BACKGROUND], 0),
        ([], [(0, 0, 10), (1, 0, 10)], [], 2),
        # The likelier one hits, so the other is beside an object that is found: no cost for it, and nothing missed.
        ([(0.9, 0, 0, 10), (0.8, 0, 6, 16)], [(0, 0, 10)], [Verdict.HIT, Verdict.PLACE], 0),
    ],
)
def test_what_a_detection_is(make_result, found, truth, verdicts, missed):
    judged = judge(make_result(found, truth))
    assert judged.verdicts.tolist() == verdicts
    assert judged.count(Verdict.MISSED) == missed


def test_of_several_wrong_detections_of_an_object_the_likeliest_would_have_found_it(make_result):
    judged = judge(make_result([(0.9, 1, 0, 10), (0.8, 0, 6, 16), (0.7, 1, 1, 11)], [(0, 0, 10)]))
    assert judged.mends.tolist() == [True, False, False]
    assert costs_of({"a": make_result([(0.9, 1, 0, 10)], [(0, 0, 10)])}, CLASSES)[Verdict.CLASS].ap50 == pytest.approx(
        1.0
    )


def test_what_lies_in_an_ignored_region_is_no_error(make_result):
    found = make_result([(0.9, 0, 40, 50), (0.8, 0, 0, 10)], [(0, 0, 10)])
    punished, excused = found, replace(found, ignored=np.array([[38.0, 0.0, 60.0, 10.0]]))
    assert judge(punished).count(Verdict.BACKGROUND) == 1
    assert judge(excused).count(Verdict.BACKGROUND) == 0
    assert costs_of({"a": punished}, CLASSES)[Verdict.BACKGROUND].ap50 == pytest.approx(0.5)
    assert costs_of({"a": excused}, CLASSES)[Verdict.BACKGROUND].ap50 == 0


def test_only_detections_above_the_threshold_of_their_class_are_judged(make_result):
    found = make_result([(0.9, 0, 0, 10), (0.6, 1, 40, 50), (0.5, 0, 40, 50)], [(0, 0, 10), (1, 20, 30)])
    judged = judge(found, np.array([0.7, 0.55]))
    assert judged.places.tolist() == [0, 1]
    assert judged.count(Verdict.BACKGROUND) == 1
    assert judged.count(Verdict.MISSED) == 1


def test_a_class_that_is_missed_whole_costs_what_taking_it_out_gains(make_result):
    # Class a is found; class b is missed whole, and nothing is taken for it: without b, AP50 is that of a.
    found = {"a": make_result([(0.9, 0, 0, 10)], [(0, 0, 10), (1, 40, 50)])}
    assert costs_of(found, CLASSES)[Verdict.MISSED].ap50 == pytest.approx(0.5)


def test_nothing_found_and_nothing_there(make_result):
    empty = costs_of({"a": make_result()}, CLASSES)
    assert all(cost.count == 0 and np.isnan(cost.ap50) for cost in empty.values())
    missed = costs_of({"a": make_result(truth=[(0, 0, 10)])}, CLASSES)
    assert missed[Verdict.MISSED].count == 1
