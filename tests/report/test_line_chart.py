"""Line charts: round ticks, honest thinning, gaps where values are not finite."""

import json
import math
import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_train.report.charts import Line, LineChart, Mark
from vision_train.report.formats import format_number, format_percent
from vision_train.report.line_chart import HIGH, LEFT, RIGHT, TOP, line_chart, thin, ticks


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_enclose_the_range_in_even_steps(low, width):
    if low + width <= low:
        return
    marks = ticks(low, low + width)
    slack = 1e-6 * max(abs(low), width)
    assert marks[0] <= low + slack
    assert marks[-1] >= low + width - slack
    assert 2 <= len(marks) <= 9


def test_ticks_are_round():
    assert ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0, 0.002) == [0.0, 0.0005, 0.001, 0.0015, 0.002]


def test_short_lines_are_drawn_point_by_point():
    line = Line("train", [1, 2], [3, 4])
    assert thin(line, limit=2) == (line, None)


def test_thinning_keeps_means_and_extremes():
    line = Line("train", list(range(100)), [0.0] * 50 + [1.0, 3.0] * 25, colour=3)
    short, band = thin(line, limit=10)
    assert short.x == pytest.approx([4.5 + 10 * k for k in range(10)])
    assert short.y == pytest.approx([0.0] * 5 + [2.0] * 5)
    assert short.colour == 3
    assert band[0].tolist() == [0.0] * 5 + [1.0] * 5
    assert band[1].tolist() == [0.0] * 5 + [3.0] * 5


def test_thinning_hides_no_gap():
    short, _ = thin(Line("train", list(range(100)), [math.inf] + [1.0] * 99), limit=10)
    assert math.isnan(short.y[0])
    assert all(map(math.isfinite, short.y[1:]))


def test_gap_starts_a_new_stroke():
    chart = line_chart(LineChart("Loss", [Line("val", [0, 1, 2, 3, 4], [1, 2, math.nan, 2, 1])], "epoch"))
    (stroke,) = re.findall(r'class="curve" d="([^"]*)"', chart)
    assert stroke.count("M") == 2
    assert "val is not finite here" in chart


def test_legend_and_hover_data():
    chart = line_chart(
        LineChart("Loss", [Line("train", [0, 1], [2.0, 0.123456]), Line("val", [1], [math.nan])], "epoch")
    )
    assert "<b>0.1235</b>" in chart
    assert "<b>no finite value</b>" in chart
    data = json.loads(unescape(re.search(r'data-chart="([^"]*)"', chart)[1]))
    assert data["lines"] == [{"x": [0, 1], "y": [2.0, 0.12346]}, {"x": [1], "y": [None]}]


@pytest.mark.parametrize("values", [[0.0], [5.0], [-3.0], [math.nan], [1e-300], [1e300], [math.inf, 1.0]])
def test_any_values_give_finite_coordinates(values):
    chart = line_chart(LineChart("Loss", [Line("train", list(range(len(values))), values)], "epoch"))
    drawn = re.sub(r'data-chart="[^"]*"', "", chart)
    assert not re.search(r'="[^"]*(nan|inf)\b', re.sub(r'aria-label="[^"]*"', "", drawn))


def test_nothing_to_draw_gives_nothing():
    assert line_chart(LineChart("Loss", [], "epoch")) == ""
    assert line_chart(LineChart("Loss", [Line("train", [], [])], "epoch")) == ""


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.2, 1.0], [0.0, 0.0]])
def test_axis_of_shares_stays_between_nothing_and_all(values):
    chart = line_chart(LineChart("Accuracy", [Line("val", [1, 2], values)], "epoch", format_percent))
    labels = [float(label) for label in re.findall(r">(-?[\d.]+) %</text>", chart)]
    assert labels[0] >= 0
    assert labels[-1] <= 100


def test_legend_without_last_values_leaves_their_places_to_the_pointer():
    chart = line_chart(LineChart("Learning rate", [Line("lr", [1, 2], [0.1, 0.0])], "epoch", last_values=False))
    assert 'lr <b></b></span><span class="at"></span>' in chart


@pytest.mark.parametrize(
    ("values", "written", "least"),
    [([0.981, 0.984], format_percent, 10), ([0.12, 0.14], format_percent, 10), ([2.30, 2.31], format_number, 0.6)],
)
def test_axis_does_not_magnify_noise(values, written, least):
    chart = line_chart(LineChart("Any", [Line("val", [1, 2], values)], "epoch", written))
    labels = [float(label) for label in re.findall(r'text-anchor="end">(-?[\d.]+)(?: %)?</text>', chart)]
    assert max(labels) - min(labels) >= least


def test_shares_that_are_written_as_numbers_stay_within_their_bounds_too():
    chart = line_chart(LineChart("AUROC", [Line("val", [1, 2], [0.97, 1.0])], "epoch", bounded=True))
    labels = [float(label) for label in re.findall(r'text-anchor="end">(-?[\d.]+)</text>', chart)]
    assert max(labels) == 1


def test_counts_and_marks_are_drawn():
    chart = line_chart(
        LineChart(
            "R", [Line("a", [0.1, 0.5], [0.2, 0.4])], "x", counts=[(0.1, 7), (0.5, 1200)], marks=[Mark(0.5, 0.4, "<t>")]
        )
    )
    assert chart.count('<rect class="count"') == 2
    assert ">1,200</text>" in chart
    assert "&lt;t&gt;" in chart


def test_points_that_nothing_joins_are_drawn_alone_and_not_read_off():
    spread = Line("images", [3.0, 1.0, 2.0] * 200, [1.0, 2.0, 3.0] * 200, scattered=True)
    drawn = str(line_chart(LineChart("chart", [spread, Line("ideal", [1.0, 3.0], [1.0, 3.0])], "true")))
    assert drawn.count("<circle") == 600 + 2
    assert drawn.count('<path class="curve"') == 1
    hover = json.loads(unescape(re.search(r'data-chart="([^"]*)"', drawn)[1]))
    assert [line["x"] for line in hover["lines"]] == [[1.0, 3.0]]
    assert drawn.index("ideal") < drawn.index("images"), "what the pointer reads comes first in the legend"


def test_axes_of_one_quantity_cover_the_same_range():
    """What agrees is on the diagonal: it has as much of the way behind it on both axes."""
    images = Line("images", [25.0, 40.0, 55.0], [38.0, 41.5, 43.0], scattered=True)
    exact = Line("no error", [25.0, 55.0], [25.0, 55.0])
    drawn = str(line_chart(LineChart("age", [exact, images], "measured", same_range=True)))
    across = [float(tick) for tick in re.findall(r'text-anchor="middle">([\d.]+)<', drawn)]
    upwards = [float(tick) for tick in re.findall(r'text-anchor="end">([\d.]+)<', drawn)]
    assert across == upwards
    assert (across[0], across[-1]) == (20, 60)
    start, end = re.search(r'd="M([\d.]+ [\d.]+)L([\d.]+ [\d.]+)"', drawn).groups()
    places = [tuple(map(float, place.split())) for place in (start, end)]
    for x, y in places:
        assert (x - LEFT) / (RIGHT - LEFT) == pytest.approx((HIGH - y) / (HIGH - TOP), abs=1e-3)


def test_there_is_no_half_of_an_epoch():
    drawn = line_chart(LineChart("Loss", [Line("val", [0, 1, 2], [1, 2, 1])], "epoch"))
    marks = re.findall(r'text-anchor="middle">([\d.]+)<', drawn)
    assert marks == ["0", "1", "2"]
