"""The page of a run in a real browser: narrow and wide, light and dark, under the hands of a reader."""

import numpy as np
import pytest

from vision_train.artefacts import Curve, Table, write_artefact
from vision_train.report import write_report

pytestmark = pytest.mark.slow
WIDTHS, SCHEMES = (420, 1280), ("light", "dark")
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def page_of(digits_run):
    """A report with everything that could be too wide: long names, many columns, curves with marks and counts."""
    folder, long = digits_run / "artefacts", "a_class_with_a_name_that_never_seems_to_come_to_an_end"
    columns = ["class", "positives", "AUROC", "95 % of AUROC", "average precision", "threshold", "sensitivity"]
    rows = [[f"{long}_{n}", 30 + n, 0.9 - n / 20, "0.812 to 0.934", 0.5 + n / 20, "0.42", 0.1 * n] for n in range(6)]
    shares = ["AUROC", "average precision", "sensitivity"]
    write_artefact(folder, Table("test_thresholds", "Thresholds on test", columns, rows, shares=shares))
    x = np.linspace(0, 1, 30).tolist()
    lines = {f"{long} 0.912": np.sqrt(x).tolist(), "guessing": [0.0, 1.0]}
    marks = {"threshold 0.50": [0.2, 0.6]}
    places = {f"{long} 0.912": x}
    write_artefact(
        folder, Curve("test_roc", "ROC", "1 - specificity", "sensitivity", [0, 1], lines, "", places, [], marks)
    )
    write_artefact(folder, Curve("test_bars", "Reliability", "x", "y", [0.1, 0.5], {"a": [0.2, 0.4]}, counts=[7, 1200]))
    return write_report(digits_run)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_makes_the_page_scroll_sideways(opened, page_of, width, scheme):
    page = opened(page_of, width, scheme)
    for details in page.query_selector_all("details"):
        details.evaluate("each => (each.open = true)")
    assert page.evaluate(OVERFLOW) == 0
    lightness = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => +a + +b) / 3"
    )
    assert (lightness > 127) == (scheme == "light")


def test_wide_tables_have_the_whole_width(opened, page_of):
    page = opened(page_of, 1280, "light")
    sides = page.evaluate("[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)")
    assert max(sides) == 0, "no table scrolls in half a page"
    of_curve, of_table = (
        page.locator(f"{kind}:has-text('{words}')").last.bounding_box()["width"]
        for kind, words in ((".chart", "Reliability"), (".block", "Thresholds on test"))
    )
    assert of_table > 1.8 * of_curve


@pytest.mark.parametrize(("heading", "numeric"), [("sensitivity", True), ("class", False)])
def test_tables_sort_both_ways(opened, page_of, heading, numeric):
    page = opened(page_of, 1280, "light")
    table = page.locator("table:has(caption:text-is('Thresholds on test'))")
    column = [text.strip() for text in table.locator("thead th").all_inner_texts()].index(heading)
    found = []
    for order in ("ascending", "descending"):
        table.locator("thead button").nth(column).click()
        assert table.locator("thead th").nth(column).get_attribute("aria-sort") == order
        cells = table.locator(f"tbody tr td:nth-child({column + 1})")
        values = [cell.get_attribute("data-value") if numeric else cell.inner_text() for cell in cells.all()]
        found.append([float(value) for value in values] if numeric else values)
    assert found[0] == sorted(found[0])
    assert found[1] == found[0][::-1]


@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_enlarge_on_click_and_by_keyboard_and_go_away_again(opened, page_of, width):
    page = opened(page_of, width, "light")
    picture, dialog = page.locator("main img").first, page.locator("dialog")
    small = picture.bounding_box()["width"]
    picture.click()
    assert dialog.is_visible()
    large = dialog.locator("img").bounding_box()["width"]
    assert large > 1.5 * small
    assert large <= width
    assert "taken for" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    picture.focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    dialog.locator("button").click()
    assert not dialog.is_visible()


def test_the_legend_follows_the_pointer(opened, page_of):
    page = opened(page_of, 1280, "light")
    chart = page.locator(".chart[data-chart]").first
    at_rest = chart.locator(".legend").inner_text()
    chart.locator("svg").hover()
    assert chart.locator(".legend").inner_text() != at_rest
    page.mouse.move(0, 0)
    assert chart.locator(".legend").inner_text() == at_rest


def test_links_lead_to_files_of_the_run(opened, page_of):
    page = opened(page_of, 420, "light")
    page.locator("#files a", has_text="metrics.jsonl").click()
    assert page.url.endswith("/runs/quickstart/0/metrics.jsonl")
