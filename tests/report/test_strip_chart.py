import re

from vision_train.artefacts import Table
from vision_train.report.charts import Line, LineChart, Strip, StripChart
from vision_train.report.formats import format_percent
from vision_train.report.grid import Cell
from vision_train.report.line_chart import line_chart
from vision_train.report.rendering import render
from vision_train.report.strip_chart import strip_chart

ARMS = [
    Strip("plain <b>", [0.90, 0.91, 0.90], 0.9033, (0.89, 0.92), 0),
    Strip("mixed", [0.95], 0.95, None, 1),
]


def test_every_run_is_a_dot_and_only_an_interval_that_is_there_a_bar():
    chart = strip_chart(StripChart("Accuracy", ARMS, "accuracy", format_percent))
    assert chart.count('class="dot"') == 4
    assert chart.count('class="range"') == 1
    assert chart.count('class="mean"') == 2
    assert "plain &lt;b&gt;" in chart
    assert ">90 %<" in chart


def test_everything_lies_within_the_picture():
    chart = strip_chart(StripChart("Accuracy", [Strip("a", [0.5, 0.5], 0.5, (0.5, 0.5), 0)], "", format_percent))
    places = [float(x) for x in re.findall(r'[cx][x12]="([-\d.]+)"', chart)]
    assert min(places) >= 0
    assert max(places) <= 480


def test_zero_is_marked_where_differences_lie_on_both_sides():
    both = strip_chart(StripChart("Difference", [Strip("a", [-1.0, 2.0], 0.5, (-3.0, 4.0), 0)], "points", str))
    assert both.count('class="zero"') == 1
    assert 'class="zero"' not in strip_chart(StripChart("Level", ARMS, "", format_percent))


def test_a_line_with_a_spread_of_its_own_shows_it_and_makes_room():
    line = Line("mixed", [5, 10], [0.5, 0.6], spread=([0.1, 0.2], [0.7, 0.9]))
    chart = line_chart(LineChart("Accuracy", [line], "labels"))
    assert chart.count('class="spread"') == 1
    heights = [float(pair.split(",")[1]) for pair in re.search(r'points="([^"]+)"', chart)[1].split()]
    assert min(heights) >= 10
    assert max(heights) <= 212


def test_a_cell_can_be_a_fault_a_link_and_sort_by_its_number():
    rows = [[Cell("1,000", 1000, fault=True), Cell("a<b", href="runs/a/?x")], [None, "–"]]
    markup = render("table.html", content=Table("t", "T", ["steps", "run"], rows))
    assert '<td class="number fault" data-value="1000">1,000</td>' in markup
    assert '<td><a href="runs/a/?x">a&lt;b</a></td>' in markup
    assert '<th scope="col" class="number">steps</th>' in markup
