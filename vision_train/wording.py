"""Counts and lists of names, as messages have them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vision_train.files import printable

MOST_NAMED = 10
"""Most names or lines that a message shows; it counts the others."""

_PLURAL = re.compile(r"(?:(?<=ch|sh|ss)e|(?<=x)e)?s$")


def first_named(names: Sequence[str]) -> str:
    """The first ten names, each on one line of a message, and how many there are in all."""
    shown = [printable(name) for name in names[:MOST_NAMED]]
    if len(names) <= MOST_NAMED:
        return f"{', '.join(shown)} ({len(names)} in all)" if len(names) > 1 else shown[0]
    return f"{', '.join(shown)}, ... ({len(names)} in all)"


def listed(head: str, lines: Sequence[str]) -> str:
    """The head of a message, and below it ten lines at most, with the number of the others."""
    rest = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return "\n  ".join([head, *lines[:MOST_NAMED], *rest])


def count_of(count: int, noun: str) -> str:
    """A count with what is counted, such as ``1,200 expressions`` or ``1 box``.

    Args:
        count: How many there are.
        noun: What they are, in the plural, which ends in s.
    """
    return f"{count:,} {_PLURAL.sub('', noun) if count == 1 else noun}"


def percent(share: float, decimals: int = 0) -> str:
    """A share of 1 in percent, as everything that is read has it: with a space, such as ``67 %``.

    Args:
        share: The share.
        decimals: Of the percentage.
    """
    return f"{100 * share:.{decimals}f} %"
