"""Where verbs report to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(*, stderr: bool = False) -> Console:
    """Standard output, or error, as a console that prints text as it is, on lines as long as they are.

    Paths and class names are the user's: `[red]` in one is no colour, and `:cat:` no picture.
    """
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def counted(counts: Mapping[str, int]) -> str:
    """Counts in words, such as ``100 train, 60 val``."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
