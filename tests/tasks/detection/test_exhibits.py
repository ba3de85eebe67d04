"""What a report shows of a pass, in ordinary cases and where there is little to show."""

import numpy as np
import pytest

from vision_train.artefacts import Curve, Table, write_artefact
from vision_train.report import boxes, write_report
from vision_train.tasks.detection.errors import Verdict, costs, judge
from vision_train.tasks.detection.exhibits import artefacts
from vision_train.tasks.detection.precision import measure
from vision_train.tasks.detection.tables import lacking

CHOSEN = "A detection counts from 0.5 on."
CLASSES = ["a", "b", "c", "d"]


def shown(results, classes=CLASSES, threshold=0.5):
    """Artefacts by name, without the split."""
    listed = artefacts(results, classes, "test", np.full(len(classes), threshold), CHOSEN, lacking(results))
    return {artefact.name.removeprefix("test_"): artefact for artefact in listed}


def rows(table: Table) -> dict[str, list]:
    return {row[0]: row[1:] for row in table.rows}


def test_the_summary_counts_what_is_there(tide_results):
    there = rows(shown(tide_results)["summary"])
    assert there["images"] == [len(tide_results)]
    assert there["objects"] == [sum(len(each.true_labels) for each in tide_results.values())]
    assert there["images without objects"] == [sum(not len(each.true_labels) for each in tide_results.values())]
    assert CHOSEN in shown(tide_results)["summary"].note


def test_errors_are_listed_with_their_costs_the_most_costly_first(tide_results):
    table = shown(tide_results)["errors"]
    lost = [row[1] for row in table.rows]
    assert lost == sorted(lost, reverse=True)
    found = costs(tide_results, [judge(result) for result in tide_results.values()], CLASSES)
    doubles = rows(table)["double"]
    assert doubles[0] == found[Verdict.DOUBLE].ap50
    assert doubles[2] == found[Verdict.DOUBLE].count
    judged = [judge(result, np.full(4, 0.5)) for result in tide_results.values()]
    assert doubles[1] == sum(each.count(Verdict.DOUBLE) for each in judged) < doubles[2]


def test_the_mean_over_classes_is_the_metric(tide_results):
    table, measured = shown(tide_results)["classes"], measure(tide_results, CLASSES)
    assert np.mean([row[2] for row in table.rows]) == pytest.approx(measured["ap"])
    assert np.mean([row[3] for row in table.rows]) == pytest.approx(measured["ap50"])


def test_precision_and_recall_of_a_class_are_those_of_its_threshold(make_result):
    found = [(0.9, 0, 0, 10), (0.8, 0, 40, 50), (0.4, 0, 20, 30)]
    results = {"a": make_result(found, [(0, 0, 10), (0, 20, 30)])}
    assert rows(shown(results, ["a"])["detections"])["a"] == ["0.50", 2, 0.5, 0.5]
    assert rows(shown(results, ["a"], threshold=0.3)["detections"])["a"] == ["0.30", 3, 2 / 3, 1.0]


def test_sizes_are_those_of_coco(make_result):
    truth = [(0, 0, 102), (0, 200, 1000), (0, 1000, 3000)]  # areas of 1,020, 8,000 and 20,000 pixels
    table = shown({"a": make_result([(0.9, 0, 0, 102)], truth)}, ["a"])["sizes"]
    assert [row[1] for row in table.rows] == [1, 1, 1]
    assert [row[4] for row in table.rows] == [1.0, 0.0, 0.0]


def test_classes_without_objects_are_named_and_left_out(make_result):
    there = shown({"a": make_result([(0.9, 0, 0, 10)], [(0, 0, 10)])})
    assert "b, c, d" in there["summary"].note
    assert rows(there["classes"])["b"] == [0, None, None]


@pytest.mark.parametrize(
    ("count", "charts"), [(1, []), (3, ["classes"]), (6, ["classes"]), (9, ["best", "worst"]), (91, ["best", "worst"])]
)
def test_as_many_classes_in_a_chart_as_can_be_told_apart(make_result, count, charts):
    classes = [f"class {number}" for number in range(count)]
    # Of class k, detections on background are likelier the larger k is.
    results = {
        name: make_result([(0.9, k, 40, 50), (0.8, k, 0, 10)][k % 2 :], [(k, 0, 10)]) for k, name in enumerate(classes)
    }
    there = shown(results, classes)
    curves = {name.removeprefix("precision_"): each for name, each in there.items() if name.startswith("precision_")}
    assert sorted(curves) == charts
    lines = [name for curve in curves.values() for name in curve.lines]
    assert len(lines) == len(set(lines)) == min(count, 12) * bool(charts)
    assert all(isinstance(curve, Curve) and len(curve.lines) <= 6 for curve in curves.values())


def test_detections_of_a_score_that_are_right(make_result):
    results = {"a": make_result([(0.95, 0, 0, 10), (0.92, 0, 40, 50), (0.31, 0, 20, 30)], [(0, 0, 10), (0, 20, 30)])}
    curve = shown(results, ["a"])["scores"]
    assert curve.x == pytest.approx([0.35, 0.95])
    assert curve.lines["detections"] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("found", "truth", "classes", "said"),
    [
        ([], [], CLASSES, "no object in the images"),
        ([(0.9, 0, 0, 10)], [], CLASSES, "no object in the images"),
        ([], [(0, 0, 10)], CLASSES, "nothing was found"),
        ([(0.2, 0, 0, 10)], [(0, 0, 10)], ["a"], CHOSEN),  # below the threshold
        ([(0.9, 0, 0, 10)], [(0, 0, 10)], ["a"], CHOSEN),
        ([(0.9, 0, 0, 10)], [(0, 0, 10)], [f"class {number}" for number in range(91)], "(90 in all)"),
    ],
)
def test_a_page_of_little_data_says_so(make_result, tmp_path, found, truth, classes, said):
    results = {"a": make_result(found, truth), "b": make_result()}
    for artefact in shown(results, classes).values():
        write_artefact(tmp_path / "artefacts", artefact, boxes.CODECS)
    page = write_report(tmp_path, extension=boxes).read_text(encoding="utf-8")
    assert said in page
    assert "Could not be read" not in page
    assert "Not shown" not in page
    assert ">NaN<" not in page
