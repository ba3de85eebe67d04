"""Work as bars on a terminal, in as many columns as that has."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from vision_train.progress import LEAST_BAR, SECONDS_UNTOLD, Figure, Work
from vision_train.wording import percent

REFRESHES_PER_SECOND = 4
BESIDE = LEAST_BAR + len("100 %") + len("0:12:34 left") + 4
"""Columns of what stands beside the description and the figures, with the spaces between."""


class Bars:
    """A bar for each piece of work that is under way; nothing of it stays on the screen.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Progress | None = None
        self._tasks: dict[Work, TaskID] = {}

    def opened(self, work: Work, *, at_once: bool) -> None:
        """Show a bar, at once where it is the only one."""
        if self._live is None:
            self._live = _live(self.console)
            self._live.start()
        visible = at_once or not self._tasks
        self._tasks[work] = self._live.add_task(work.text, total=work.total, visible=visible, work=work)

    def changed(self, work: Work) -> None:
        """Move it."""
        if self._live is None:
            return
        task = self._tasks[work]
        visible = self._live.tasks[self._live.task_ids.index(task)].visible or work.seconds > SECONDS_UNTOLD
        self._live.update(task, completed=work.done, total=work.total, description=work.text, visible=visible)

    def closed(self, work: Work) -> None:
        """Take it away; what follows stands alone."""
        task = self._tasks.pop(work)
        if self._live is None:
            return
        self._live.refresh()  # once more, where all of it was faster than the eye
        self._live.remove_task(task)
        if not self._tasks:
            self._live.stop()
            self._live = None

    def told(self) -> None:
        """Nothing: a bar stays below what is printed."""


def _live(console: Console) -> Progress:
    return Progress(
        _Description(console, table_column=Column(no_wrap=True, overflow="crop")),
        BarColumn(bar_width=None),
        _Figures(console, table_column=Column(no_wrap=True, overflow="crop")),
        console=console,
        transient=True,
        refresh_per_second=REFRESHES_PER_SECOND,
        # What is printed to a pipe goes there, not above the bars.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=sys.stderr.isatty(),
    )


class _Description(ProgressColumn):
    """What is done; the end of it where all is too long for the terminal."""

    def __init__(self, console: Console, table_column: Column) -> None:
        super().__init__(table_column)
        self._console = console

    def render(self, task: Task) -> Text:
        return Text(shortened(task.description, self._console.width - BESIDE))


class _Figures(ProgressColumn):
    """Share, figures and time left, as many of them as leave room for a bar."""

    def __init__(self, console: Console, table_column: Column) -> None:
        super().__init__(table_column)
        self._console = console

    def render(self, task: Task) -> Text:
        work: Work = task.fields["work"]
        done = [] if work.share is None else [f"{percent(work.share):>5}"]
        left = work.seconds_left()
        clock = [f"{_clock(left)} left"] if left is not None else [_clock(time.monotonic() - work.began)]
        room = self._console.width - len(task.description) - BESIDE
        return Text(" ".join([*done, *chosen(work.counts(), room), *clock]))


def shortened(text: str, width: int) -> str:
    """Text, or what fits of its end."""
    return text if len(text) <= width else f"...{text[len(text) - max(width - 3, 0) :]}"


def chosen(figures: Sequence[Figure], room: int) -> list[str]:
    """The figures that fit into so many columns with a space after each, in their short forms where the long do not."""
    long = [figure if isinstance(figure, str) else figure[0] for figure in figures]
    short = [figure if isinstance(figure, str) else figure[1] for figure in figures]
    for texts in (long, *(short[:count] for count in range(len(short), 0, -1))):
        if sum(len(text) + 1 for text in texts) <= room:
            return list(texts)
    return []


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
