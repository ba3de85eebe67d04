"""Metrics of grounding, its tables and its pictures."""

import math

import numpy as np
import pytest
import torch

from vision_train.artefacts import Curve, Items, Table
from vision_train.tasks.grounding.exhibits import artefacts, lacking
from vision_train.tasks.grounding.results import PhraseResult, ResultTable, ious, measure
from vision_train.tasks.grounding.worst import FOUND, PANEL, TRUE, WorstExpressions, darkened

TRUTH = (10.0, 10.0, 30.0, 30.0)


def result(found=TRUTH, expression="red circle", group="a.png", category="circle", true=TRUTH) -> PhraseResult:
    return PhraseResult(expression, found, true, math.nan, group, (100, 100), category)


def shifted(by: float) -> tuple[float, float, float, float]:
    return (10.0 + by, 10.0, 30.0 + by, 30.0)


def test_a_box_counts_from_an_overlap_of_one_half_on():
    half = (10.0, 10.0, 20.0, 30.0)
    results = {"0": result(), "1": result(half), "2": result(shifted(10)), "3": result(shifted(20))}
    assert ious(results).tolist() == pytest.approx([1, 0.5, 1 / 3, 0])
    assert measure(results) == pytest.approx(
        {"accuracy": 0.5, "accuracy_25": 0.75, "accuracy_75": 0.25, "mean_iou": (1 + 0.5 + 1 / 3) / 4}
    )
    assert math.isnan(measure({})["accuracy"])


def test_boxes_without_area_and_boxes_that_are_not_finite_overlap_nothing():
    empty = (10.0, 10.0, 10.0, 30.0)
    assert result(empty).iou == 0
    assert result(empty, true=empty).iou == 0
    broken = {"0": result((math.nan, 0.0, 1.0, 1.0)), "1": result()}
    assert measure(broken)["accuracy"] == 0.5
    assert "1 expression," in lacking(broken)[0]
    assert lacking({"1": result()}) == []


def test_results_are_gathered_in_the_order_of_their_ids():
    table = ResultTable()
    table.add(["b", "a"], [result(group="b"), result(group="a")])
    table.add(["a"], [result(group="a")])
    assert list(table.gather()) == ["a", "b"]


def test_accuracy_is_shown_at_each_iou_from_one_half_to_nine_tenths():
    results = {"0": result(), "1": result((10.0, 10.0, 20.0, 30.0)), "2": result(shifted(2))}  # IoU 1, 0.5 and 0.82
    curve = {each.name: each for each in artefacts(results, "test", [])}["test_thresholds"]
    assert isinstance(curve, Curve)
    assert curve.x == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]
    assert curve.lines["accuracy"] == pytest.approx([1, *[2 / 3] * 6, 1 / 3, 1 / 3])
    assert "63.0 %" in curve.note


def test_tables_part_expressions_by_length_and_category_and_items_keep_images_together():
    results = {f"{at}": result(expression="red circle", group=f"{at % 3}") for at in range(6)}
    results |= {
        f"x{at}": result(shifted(20), "the red circle left of the blue square", f"{at}", "square") for at in range(5)
    }
    results["y"] = result(expression="one", category="rare")
    shown = {each.name: each for each in artefacts(results, "test", ["odd"])}
    lengths, categories, items = shown["test_lengths"], shown["test_categories"], shown["test_items"]
    assert isinstance(lengths, Table)
    assert [row[:3] for row in lengths.rows] == [["1 to 2", 7, 1.0], ["8 to 12", 5, 0.0]]
    assert lengths.note.startswith("Warning: odd. 12 expressions of")
    assert isinstance(categories, Table)
    assert [row[:3] for row in categories.rows] == [["circle", 6, 1.0], ["square", 5, 0.0], ["others", 1, 1.0]]
    assert "fewer than 5" in categories.note
    assert [row[3] for row in categories.rows] == ["61.0 to 100.0 %", "0.0 to 43.4 %", "20.7 to 100.0 %"], "Wilson's"
    assert isinstance(items, Items)
    assert items.groups is not None
    assert items.groups[:6] == ["0", "1", "2"] * 2
    assert np.mean(items.values["accuracy"]) == measure(results)["accuracy"]
    alone = {each.name for each in artefacts({"a": result(category="")}, "test", [])}
    assert alone == {"test_lengths", "test_thresholds", "test_items"}, "nothing by category where none is known"


def test_the_worst_expressions_come_first_with_both_boxes_in_pixels_of_the_picture():
    worst, pixels = WorstExpressions(), np.full((20, 20, 3), 200, dtype=np.uint8)
    half = np.diag([0.5, 0.5, 1.0])
    results = [result(shifted(by)) for by in (0, 20, 10)]
    worst.add(["right", "wrong", "near"], results, lambda place: (pixels, darkened(pixels, torch.eye(4)), half))
    boxes, attended = worst.pictures("test")
    assert [picture.id for picture in boxes.pictures] == ["wrong", "near", "right"]
    drawn = {box.kind: box.corners for box in boxes.pictures[0].panels[PANEL]}
    assert drawn == {FOUND: (15.0, 5.0, 25.0, 15.0), TRUE: (5.0, 5.0, 15.0, 15.0)}
    assert "red circle" in boxes.pictures[0].caption
    assert attended.pictures[0].pixels.shape == pixels.shape


def test_what_is_not_attended_to_is_dark():
    pixels, attention = np.full((8, 8, 3), 200, dtype=np.uint8), torch.zeros(4, 4)
    attention[0, 0] = 0.2
    shown = darkened(pixels, attention)
    assert shown[0, 0, 0] == 200
    assert shown[-1, -1, 0] == 50
    assert (darkened(pixels, torch.zeros(4, 4)) == 50).all()
