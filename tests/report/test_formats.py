import pytest

from vision_train.artefacts import Metric
from vision_train.report.formats import (
    describe,
    format_bytes,
    format_cell,
    format_duration,
    format_number,
    format_percent,
    metric_format,
    metric_title,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.01235"),
        (3.0, "3"),
        (1234567, "1,234,567"),
        (1150.34, "1,150"),
        (float("nan"), "NaN"),
        (-0.5, "-0.5"),
    ],
)
def test_numbers(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (59.96, "1 min 00 s"), (71.8, "1 min 12 s"), (3599.9, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_other_units():
    assert format_percent(0.98333) == "98.3 %"
    assert format_bytes(734003200) == "700 MiB"
    assert format_bytes(0) == "0 B"
    assert format_cell({"a": None, "b": [1, True]}) == "a: –, b: 1, yes"


@pytest.mark.parametrize(("rate", "text"), [(4.3333, "4.33"), (43.21, "43"), (1316.31, "1,316"), (float("nan"), "nan")])
def test_rates(rate, text):
    assert metric_format("train/samples_per_second", {})(rate).lower() == text


def test_metric_names():
    described = {
        "accuracy": Metric("accuracy", "accuracy", "percent"),
        "accuracy_top5": Metric("accuracy_top5", "top-5 accuracy", "percent"),
    }
    assert metric_title("test/accuracy_top5", described) == "Test top-5 accuracy"
    assert metric_title("accuracy_top5", described) == "Top-5 accuracy"
    assert metric_title("val/box_ap", described) == "Val box ap"
    assert metric_format("test/accuracy", described)(0.5) == "50.0 %"
    assert metric_format("val/box_ap", described)(0.5) == "0.5"
    assert metric_format("train/best_epoch", {})(51) == "52"


def test_what_the_engine_measures_needs_no_description():
    described = {"ap": Metric("ap", "average precision", "percent", is_proportion=True, shown="never")}
    found = describe("val/ap", described)
    assert (found.title, found.written(0.5)) == ("average precision", "50.0 %")
    assert found.is_proportion
    assert not found.shown
    assert describe("train/seconds", described).written(3.21) == "3.2 s"
    assert describe("lr/head", {}).title == "head"
    assert describe("test/accuracy", {}).written(0.5) == "0.5"
