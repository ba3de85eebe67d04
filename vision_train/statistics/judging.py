"""The verdict on a difference, of what is known over seeds and over test samples."""

from __future__ import annotations

from typing import Literal

from vision_train.statistics.intervals import Interval, PairedTest

Verdict = Literal["better", "worse", "ahead", "behind", "no measurable difference", "failed", "not tested"]
"""``ahead``, ``behind``: on these test samples, not shown for others. ``failed``: on seeds that the other finished."""


def judge(test: PairedTest, items: Interval | None, mode: str, own_samples: bool = False) -> Verdict:
    """The verdict on a difference, second minus first.

    Args:
        test: Over the seeds.
        items: Interval of the difference over test items; None if nothing is known of items.
        mode: ``max`` if more is better, ``min`` if less is.
        own_samples: Whether each seed has test samples of its own: then the seeds alone decide.
    """
    if test.p is None:
        return "not tested"
    if test.interval is None or not test.interval.excludes_zero:
        return "no measurable difference"
    gained = (test.difference > 0) == (mode == "max")
    if own_samples or (items is not None and items.excludes_zero):
        return "better" if gained else "worse"
    return "ahead" if gained else "behind"
