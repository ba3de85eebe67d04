"""Attention over the instances of bags as numbers: ranks, the largest ones, a curve and a csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vision_train.artefacts import Curve

LARGEST = 100
"""How many instances the cumulative curve goes through."""
DIGITS = 9
"""Significant digits that give every float32 back."""

Values = NDArray[np.float64]


def attention_values(attention: NDArray[np.floating]) -> Values:
    """Attention of a bag or branch, checked: N, finite, not negative.

    Raises:
        ValueError: It is something else, such as scores from before the softmax.
    """
    values = np.asarray(attention, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"attention of a bag is one number for each instance, got shape {values.shape}")
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"attention is NaN or infinite for {bad} of {len(values)} instances")
    if values.min() < 0:
        raise ValueError("attention is negative: take it from behind the softmax, not the scores before")
    return values


def rank_shares(values: Values) -> Values:
    """For each of N values the share of the others that are smaller, ties counted half; 0.5 if all are equal."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    smaller = np.cumsum(counts) - counts
    return ((smaller + (counts - 1) / 2) / (len(values) - 1))[inverse] if len(values) > 1 else np.full(1, 0.5)


def hottest(attention: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Indices of the instances with most attention, most first; of equal ones the earlier first.

    Raises:
        ValueError: As ``attention_values`` does.
    """
    return np.argsort(-attention_values(attention), kind="stable")[:count]


def cumulative_attention(attention: NDArray[np.floating], largest: int = LARGEST) -> Values:
    """Attention that the K instances with most of it hold together, for K = 1 to ``largest``.

    Beyond the instances of a small bag it stays at their sum.

    Raises:
        ValueError: As ``attention_values`` does.
    """
    held = np.sort(attention_values(attention))[::-1][:largest].cumsum()
    return np.pad(held, (0, largest - len(held)), mode="edge")


def cumulative_curve(bags: Mapping[str, Sequence[Values]]) -> Curve:
    """The cumulative attention, averaged over bags.

    Args:
        bags: Name of a line, such as the network or a branch -> ``cumulative_attention`` of each of at least one bag.
    """
    lines = {name: np.mean(held, axis=0).tolist() for name, held in bags.items()}
    return Curve(
        name="attention_cumulative",
        title="Attention held by the hottest instances",
        x_label="instances",
        y_label="share of attention",
        x=[float(k) for k in range(1, 1 + max(map(len, lines.values())))],
        lines=lines,
        note="Mean over bags. A line that starts near 1 is a network that looks at a single instance of each bag.",
    )


def attention_rows(
    slide_id: str,
    coords: NDArray[np.integer] | None,
    attention: NDArray[np.floating],
    branches: NDArray[np.floating],
    *,
    header: bool = True,
) -> str:
    """The attention of a bag as csv: ``slide_id,x,y,attention,branch_0,...``, a row for each instance.

    Args:
        slide_id: In every row.
        coords: N 2, x and y in pixels of level 0; without, the two cells of a row stay empty.
        attention: N, of the bag.
        branches: T N.
        header: Begin with the names of the columns; left out where rows are added to those of another bag.

    Raises:
        ValueError: As ``attention_values`` does, or the numbers of instances differ.
    """
    columns = [attention_values(values) for values in (attention, *branches)]
    places = [("", "")] * len(columns[0]) if coords is None else np.asarray(coords).tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(["slide_id", "x", "y", "attention", *(f"branch_{number}" for number in range(len(branches)))])
    written = ([f"{value:.{DIGITS}g}" for value in values] for values in columns)
    writer.writerows((slide_id, *place, *cells) for place, *cells in zip(places, *written, strict=True))
    return text.getvalue()
