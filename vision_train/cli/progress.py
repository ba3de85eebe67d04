"""How far a verb has come with the files of a folder: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 30.0
"""In a pipe."""


class ItemProgress:
    """Shows items done, and the throughput in what they consist of.

    Args:
        console: Where to write; decides by itself whether it is a terminal.
        total: Items to come.
        items: What they are called, in the plural.
        parts: What they consist of, in the plural.
    """

    def __init__(self, console: Console, total: int, items: str, parts: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console = console
        self.total, self.items, self.parts = total, items, parts
        self._items_done = 0.0
        self._parts_done = 0
        self._began = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(self._figures(), total=total)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._began = self._last_line = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the bar away; what follows stands alone."""
        self._bar.stop()

    def advance(self, items: float, parts: int) -> None:
        """Count items, or a share of one, and what was done of them; what was there already has no parts."""
        self._items_done += items
        self._parts_done += parts
        self._bar.update(self._task, completed=self._items_done, description=self._figures())
        if self._bar.disable and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.console.print(self._figures())

    def _figures(self) -> str:
        done = int(self._items_done + 1e-6)  # shares of an item add up to almost one
        rate = self._parts_done / max(time.monotonic() - self._began, 1e-9)
        return f"{done:,}/{self.total:,} {self.items}  {self._parts_done:,} {self.parts}  {rate:,.0f} {self.parts}/s"
