"""Samples in words: how many there are of which class, and how they are divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vision_train.data.sample import Divisible
from vision_train.files import printable
from vision_train.wording import count_of

MOST_CLASSES = 8
"""Classes that a line names; it counts the others."""


def classes_in_words(samples: Sequence[Divisible], noun: str) -> str:
    """How many samples there are, and of which classes."""
    counts = Counter(sample.truth for sample in samples if sample.truth is not None)
    if not counts:
        return f"{count_of(len(samples), noun)} without labels"
    without = len(samples) - counts.total()
    return f"{count_of(len(samples), noun)} of {counts_in_words(counts)}" + (
        f"; {without:,} have no label" if without else ""
    )


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Classes with their counts, the largest first, such as ``2 classes: cat 30, dog 12``."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{printable(name)} {count:,}" for name, count in ordered[:MOST_CLASSES]]
    more = [f"and {len(ordered) - MOST_CLASSES} more"] if len(ordered) > MOST_CLASSES else []
    return f"{count_of(len(ordered), 'classes')}: {', '.join([*named, *more])}"


def splits_in_words(samples: Sequence[Divisible], cut: Sequence[str] = ("val", "test")) -> str:
    """How samples are divided by their source; or that they are not, and what is cut from them then."""
    counts = Counter(sample.split for sample in samples)
    if set(counts) <= {None, "train"}:
        return f"not divided: a tenth {'each ' if len(cut) > 1 else ''}becomes {' and '.join(cut)}"
    named = ", ".join(f"{count:,} {split or 'train'}" for split, count in counts.items())
    return f"divided: {named}"
