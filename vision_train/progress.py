"""What is being done and how far it is: bars on a terminal, a few plain lines in a pipe or a notebook.

Code in any room says what takes long (:func:`doing`). Whether and where that is shown is decided once, by the verb that
was asked for (:func:`shown_on`); without one, nothing is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from vision_train.processes import launched_rank
from vision_train.wording import percent

if TYPE_CHECKING:
    from rich.console import Console

Figure = str | tuple[str, str]
"""What is told of work; of two texts the second is shorter and serves where there is little room."""

SECONDS_UNTOLD = 1.0
"""Shorter work gets no line in a pipe, and no bar below another one."""
SECONDS_BETWEEN_LINES = 10.0
"""In a pipe; a line also waits for :data:`SHARE_BETWEEN_LINES` of the work, but no longer than for the next one."""
SHARE_BETWEEN_LINES = 0.1
LONGEST_SILENCE = 60.0
LEAST_BAR = 6
"""Columns."""


class Work:
    """Something that takes long.

    Args:
        display: Shows it; None where nobody waits.
        text: What is done, such as ``reading images``.
        total: How many items there are; None where nobody knows.
        unit: What they are called, in the plural; empty where their number says nothing.
        parts: What they consist of, in the plural, and what throughput is counted in; empty for the items themselves.
    """

    def __init__(self, display: Display | None, text: str, total: float | None, unit: str, parts: str = "") -> None:
        self.text, self.total, self.unit, self.parts = text, total, unit, parts
        self.done, self.parts_done = 0.0, 0
        self.figures: Sequence[Figure] = ()
        self.left: float | None = None
        """Seconds left, if the code that does the work can tell; None lets :meth:`seconds_left` estimate them."""
        self.began = time.monotonic()
        self._display = display

    def advance(self, count: float = 1, parts: int = 0, *figures: Figure) -> None:
        """Count finished items, or a share of one, and the parts of those that were made just now."""
        self.done += count
        self.parts_done += parts
        self.show(figures=figures)

    def show(self, text: str | None = None, figures: Sequence[Figure] = ()) -> None:
        """Say otherwise what is done, and what there is to tell of it."""
        self.text = self.text if text is None else text
        self.figures = figures
        if self._display is not None:
            self._display.changed(self)

    def told(self) -> None:
        """Note that a line about it was printed elsewhere, so that the next one can wait."""
        if self._display is not None:
            self._display.told()

    def counts(self) -> list[Figure]:
        """Items, throughput, and what else there is to tell."""
        told: list[Figure] = []
        if self.unit:
            done = f"{int(self.done + 1e-6):,}"  # shares of an item add up to almost one
            told.append(f"{done} {self.unit}" if self.total is None else f"{done}/{self.total:,.0f} {self.unit}")
        if self.unit and self.done:
            counted, unit = (self.parts_done, self.parts) if self.parts else (self.done, self.unit)
            told.append(f"{counted / max(self.seconds, 1e-9):,.0f} {unit}/s")
        return [*told, *self.figures]

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    @property
    def share(self) -> float | None:
        """What is done of it, 0 to 1; None where nobody knows."""
        return min(self.done / self.total, 1.0) if self.total else None

    def seconds_left(self) -> float | None:
        """As long as the rest takes at the pace so far; None before anything is done."""
        if self.left is not None or not self.total or not self.done:
            return self.left
        return self.seconds / self.done * max(self.total - self.done, 0)


class Display(Protocol):
    """Shows work."""

    console: Console

    def opened(self, work: Work, *, at_once: bool) -> None:
        """It has begun."""

    def changed(self, work: Work) -> None:
        """It has come further."""

    def closed(self, work: Work) -> None:
        """It has ended, well or not."""

    def told(self) -> None:
        """A line was printed."""


_DISPLAY: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def shown_on(console: Console) -> Iterator[None]:
    """Show on a console what is done within the block; only the first of several processes shows anything."""
    current = _DISPLAY.get()
    if current is not None and current.console is console:
        yield
        return
    token = _DISPLAY.set(_display_for(console))
    try:
        yield
    finally:
        _DISPLAY.reset(token)


@contextmanager
def doing(
    text: str, total: float | None = None, unit: str = "", *, parts: str = "", at_once: bool = False
) -> Iterator[Work]:
    """Say what the block does; the arguments are those of :class:`Work`.

    Args:
        text: What is done.
        total: How many items there are.
        unit: What they are called.
        parts: What they consist of.
        at_once: Say it even if it takes less than a second.
    """
    display = _DISPLAY.get()
    work = Work(display, text, total, unit, parts)
    if display is None:
        yield work
        return
    display.opened(work, at_once=at_once)
    try:
        yield work
    finally:
        display.closed(work)


def format_seconds(seconds: float) -> str:
    """Seconds as ``42 s``, ``3 min 10 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def fitted(parts: Sequence[str], width: int | None, *, optional: Sequence[str] = ()) -> str:
    """Parts of a line beside one another, as many as fit.

    Args:
        parts: In order. Where they do not fit, the rest stands on lines of its own, moved to the right.
        width: Columns; None for a line of any length.
        optional: More parts, which are left out from the last one on where they do not fit.
    """
    if width is None:
        return "  ".join([*parts, *optional])
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}  {part}" if lines[-1] else part
        if len(longer) <= width or not lines[-1].strip():
            lines[-1] = longer
        else:
            lines.append(f"  {part}")
    for part in optional:
        if len(longer := f"{lines[-1]}  {part}") > width:
            break
        lines[-1] = longer
    return "\n".join(lines)


def width_of(console: Console) -> int | None:
    """Columns of a terminal; None where lines are as long as they are."""
    return console.width if console.is_terminal else None


def _display_for(console: Console) -> Display | None:
    if console.quiet or launched_rank():
        return None
    if not console.is_terminal:
        return Lines(console)
    from vision_train.progress_bars import Bars

    return Bars(console)


class Lines:
    """Plain lines: what begins, once that takes a second, and now and then how far it is."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._timers: dict[Work, threading.Timer] = {}
        self._last: dict[Work, tuple[float, float]] = {}
        """When the last line of each was due, and the share that was done then."""

    def opened(self, work: Work, *, at_once: bool) -> None:
        """Say it, at once or once it takes long."""
        self._last[work] = (work.began, 0.0)
        if at_once:
            self._say(work.text)
            return
        timer = threading.Timer(SECONDS_UNTOLD, self._say, [work.text])
        timer.daemon = True
        self._timers[work] = timer
        timer.start()

    def changed(self, work: Work) -> None:
        """Say how far it is, if nothing was said for long."""
        now, share = time.monotonic(), work.share or 0.0
        last, share_then = self._last[work]
        if now - last < SECONDS_BETWEEN_LINES or work.share == 1:
            return
        if share - share_then < SHARE_BETWEEN_LINES and now - last < LONGEST_SILENCE:
            return
        self._last[work] = (now, share)
        told = [figure if isinstance(figure, str) else figure[0] for figure in work.counts()]
        if not work.unit and work.share is not None:
            told.insert(0, percent(work.share))
        if (left := work.seconds_left()) is not None:
            told.append(f"{format_seconds(left)} left")
        self._say(fitted([work.text, *told], None))

    def closed(self, work: Work) -> None:
        """Say nothing more."""
        del self._last[work]
        if timer := self._timers.pop(work, None):
            timer.cancel()

    def told(self) -> None:
        """Let the next lines wait."""
        now = time.monotonic()
        for work, (_, share) in list(self._last.items()):
            self._last[work] = (now, share)
        while self._timers:
            self._timers.popitem()[1].cancel()

    def _say(self, line: str) -> None:
        self.told()
        self.console.print(line)
