"""What is shown of work that takes long: on terminals of any width and encoding, in a pipe, in a notebook."""

import io
import re
import time

import pytest
from rich.console import Console

from vision_train import progress
from vision_train.cli.console import write_anywhere
from vision_train.progress import doing, fitted, format_seconds, shown_on
from vision_train.progress_bars import Bars, shortened

FIGURES = ("loss 12.3456", "12,345 samples/s", ("13 % waiting for data", "13 % wait"))
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The seconds that have passed, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def pipe() -> Console:
    return Console(file=io.StringIO(), soft_wrap=True)


def bar(width: int, text: str, figures=FIGURES) -> str:
    """A bar of training as a terminal of so many columns shows it, without colours."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    seen = Console(file=io.StringIO(), width=width, color_system=None)
    with shown_on(console), doing(text, 3000) as work:
        work.left = 12345.0
        work.advance(1234, 0, *figures)
        display = progress._DISPLAY.get()
        assert isinstance(display, Bars)
        assert display._live is not None
        seen.print(display._live.get_renderable())
    lines = seen.file.getvalue().splitlines()
    assert len(lines) == 1, "it is wrapped"
    return lines[0]


def test_a_bar_of_training_fits_80_columns_and_has_all_figures():
    line = bar(80, "epoch 12/300")
    assert len(line) <= 80
    for told in ("epoch 12/300 ", " 41 % ", " loss 12.3456 ", " 12,345 samples/s ", " 13 % wait ", " 3:25:45 left"):
        assert told in line


def test_a_wide_terminal_gets_a_longer_bar_and_words():
    narrow, wide = bar(80, "epoch 12/300"), bar(200, "epoch 12/300")
    assert 180 < len(wide) <= 200
    assert " 13 % waiting for data " in wide
    assert wide.count("━") > narrow.count("━") + 40


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_long_names_leave_room_for_share_and_time(width):
    line = bar(width, "classification/vit_small data.labels_per_class=5 seed 12 epoch 12/300")
    assert len(line) <= width
    assert "12/300" in line
    assert "41 % " in line
    assert "3:25:45 left" in line


def test_a_terminal_of_ascii_gets_a_bar_of_ascii(monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_anywhere(stream)
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    with shown_on(console), doing("embedding", 10, "images") as work, doing("reading", at_once=True):
        work.advance(5)
        display = progress._DISPLAY.get()
        assert isinstance(display, Bars)
        assert display._live is not None
        display._live.refresh()
    stream.flush()
    said = raw.getvalue().decode("ascii")
    assert "5/10 images" in said
    assert "---" in said
    assert "\\u" not in said


def test_a_pipe_gets_few_plain_lines(clock):
    console = pipe()
    with shown_on(console), doing("predicting", 1000, "images", at_once=True) as work:
        for _ in range(1000):
            clock[0] += 0.5
            work.advance()
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "predicting"
    assert lines[1] == "predicting  100/1,000 images  2 images/s  7 min 30 s left"
    assert 5 <= len(lines) <= 10
    assert not CONTROL.search(console.file.getvalue())


def test_slow_work_is_told_once_a_minute_at_least(clock):
    console = pipe()
    with shown_on(console), doing("training", 10_000, at_once=True) as work:
        for _ in range(120):
            clock[0] += 1
            work.advance(1, 0, *FIGURES)
    assert len(console.file.getvalue().splitlines()) == 3
    assert "1 %  loss 12.3456  12,345 samples/s  13 % waiting for data  " in console.file.getvalue()


def test_short_work_is_not_told_in_a_pipe_and_long_work_is(monkeypatch):
    console = pipe()
    with shown_on(console):
        with doing("listing images"):
            pass
        assert console.file.getvalue() == ""
        monkeypatch.setattr(progress, "SECONDS_UNTOLD", 0.0)
        with doing("listing images"):
            waited = time.monotonic()
            while not console.file.getvalue() and time.monotonic() - waited < 10:
                pass
    assert console.file.getvalue() == "listing images\n"


def test_nothing_is_shown_without_a_display_by_other_processes_or_after_the_end(monkeypatch, clock):
    console = pipe()
    with doing("reading", 3, at_once=True) as work:
        work.advance()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with shown_on(console), doing("reading", 3, at_once=True) as work:
        clock[0] += 100
        work.advance()
    monkeypatch.delenv("LOCAL_RANK")
    with shown_on(console):
        pass
    with doing("reading", 3, at_once=True):
        pass
    assert console.file.getvalue() == ""


def test_a_notebook_gets_plain_lines():
    """Rich takes a notebook for no terminal, whatever its output says of itself; bars would need ipywidgets."""
    console = Console(file=io.StringIO(), force_jupyter=True)
    assert not console.is_terminal
    with shown_on(console), doing("fit quickstart: loading", at_once=True):
        assert isinstance(progress._DISPLAY.get(), progress.Lines)


def test_a_bar_leaves_nothing_behind_and_ends_with_an_error():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with pytest.raises(ZeroDivisionError), shown_on(console), doing("testing", 3):
        raise ZeroDivisionError
    assert console.file.getvalue().endswith("\r\x1b[2K\x1b[?25h\r"), "the line is cleared and the cursor is back"


def test_parts_of_a_line_are_left_out_or_stand_below():
    parts, optional = ["epoch 1/2", "val/accuracy 0.5"], ["loss 1", "9 samples/s"]
    assert fitted(parts, None, optional=optional) == "epoch 1/2  val/accuracy 0.5  loss 1  9 samples/s"
    assert fitted(parts, 36, optional=optional) == "epoch 1/2  val/accuracy 0.5  loss 1"
    assert fitted(parts, 20, optional=optional) == "epoch 1/2\n  val/accuracy 0.5"
    assert shortened("abcdefghij", 6) == "...hij"


def test_seconds_read_as_a_person_would_say_them():
    assert [format_seconds(seconds) for seconds in (0.4, 42, 190, 7500)] == ["0 s", "42 s", "3 min 10 s", "2 h 5 min"]
