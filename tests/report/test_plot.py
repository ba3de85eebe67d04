"""Charts as a PNG: the same descriptions that the page draws, whatever they lack."""

import io
import math

import pytest
from PIL import Image

from vision_train.report.charts import Line, LineChart, Strip, StripChart
from vision_train.report.formats import format_percent
from vision_train.report.line_chart import line_chart
from vision_train.report.plot import StripRows, plot_lines, plot_strips

LABELS = ("Accuracy", "difference to\nplain, points")


def strips(*names: str) -> StripChart:
    return StripChart(
        "Accuracy", [Strip(name, [0.5, 0.6], 0.55, None, 7) for name in names], "accuracy", format_percent
    )


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


@pytest.mark.parametrize("low", [[0.1, 0.2], [0.1, math.nan], [math.nan, math.nan]])
def test_intervals_may_be_missing(low):
    spread = (low, [end + 0.5 for end in low])
    line = Line("mixed", [5, 10], [0.5, 0.6], 1, spread, [(5, 0.4), (5, 0.6), (10, 0.6)])
    levels, differences = (LineChart("Accuracy", lines, "labels", format_percent) for lines in ([line], []))
    assert size(plot_lines(levels, differences, LABELS, "points: seeds"))[0] == 1600
    assert "nan" not in line_chart(levels).replace("NaN", "").lower()


def test_each_strip_has_a_row_and_only_compared_ones_a_difference():
    rows = [StripRows("labels 5", strips("plain", "mixed"), strips("mixed")), StripRows("", strips("plain"), None)]
    assert size(plot_strips(rows, LABELS, "")) == (1600, round(160 * (1.6 + 0.55 * 3)))
