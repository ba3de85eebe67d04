"""Where networks look in bags, as a result to be stored and drawn: numpy alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class AttendedBag:
    """Where the branches of a network look in one bag."""

    id: str
    caption: str
    attention: np.ndarray
    """T N: a row for each branch, at least 0, summing to 1; the bag's own attention is their mean."""
    coords: np.ndarray | None = None
    """N 2, int64: x and y of each instance in pixels of level 0."""
    patch_size_level0: int | None = None
    """Side of an instance in pixels of level 0."""
    pictures: list[np.ndarray] = field(default_factory=list)
    """Each H W 3, uint8: the instances with most attention, most first, where they can be shown."""


@dataclass(frozen=True)
class AttentionMaps:
    """Bags to be shown as maps of their attention."""

    name: str
    title: str
    bags: list[AttendedBag]
    note: str = ""
