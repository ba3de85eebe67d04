"""Where verbs report to."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vision_train.importing import uncollected, without_needless
from vision_train.progress import doing, shown_on

if TYPE_CHECKING:
    from rich.console import Console

PLAIN = {"…": "...", "–": "-", "−": "-", "±": "+/-", "×": "x", "·": "|", "→": "->", "∞": "inf", "\u00a0": " "}
"""Characters of ours -> what a terminal shows that has them not."""
IN_PLACE = "vision_train.in_place"
"""Name of the error handler that writes them."""


def write_anywhere(*streams: TextIO) -> None:
    """Let streams write any text, whatever their encoding: what it lacks is written in its place, or escaped.

    File names may hold characters that a terminal cannot show, or bytes that are no text; a run does not end for that.
    """
    codecs.register_error(IN_PLACE, _in_place)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=IN_PLACE)


def _in_place(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, sign.encode("ascii", "backslashreplace").decode()) for sign in lacking), error.end


def plain_console(*, stderr: bool = False) -> Console:
    """Standard output, or error, as a console that prints text as it is, on lines as long as they are.

    Paths and class names are the user's: `[red]` in one is no colour, and `:cat:` no picture.
    """
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def console_for(*, quiet: bool) -> Console:
    """Where a call from Python reports: standard output, or nowhere."""
    from rich.console import Console

    return Console(quiet=True) if quiet else plain_console()


@contextmanager
def loading(verb: str, *, shared: bool = False) -> Iterator[None]:
    """Say that libraries are imported for a verb, which takes seconds; said before the first of them is.

    Args:
        verb: With what it is about.
        shared: Whether code that is not ours runs in this process too, and may need what we do not.
    """
    hiding = nullcontext() if shared else without_needless()
    with doing(f"{verb}: loading PyTorch and Lightning", at_once="torch" not in sys.modules), uncollected(), hiding:
        yield


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Say on standard error what a short verb does; its libraries alone may take seconds to load."""
    with shown_on(plain_console(stderr=True)), doing(text, at_once="numpy" not in sys.modules):
        yield


def counted(counts: Mapping[str, int]) -> str:
    """Counts in words, such as ``100 train, 60 val``."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def say_written(counts: Mapping[str, int], noun: str, folder: Path, following: str) -> None:
    """Say what a command wrote to a folder, and which command of ours takes it.

    Args:
        counts: How many of each split.
        noun: What they are, with what they come with.
        folder: The folder.
        following: The command, without the name of the program.
    """
    print(f"Wrote {sum(counts.values())} {noun} to {folder} ({counted(counts)}).")
    print(f"Next: vision-train {following}")
