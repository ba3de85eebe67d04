"""Attention over the instances of a bag as numbers: ranks, and the largest ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    from scipy.stats import rankdata

    return (rankdata(values) - 1) / (len(values) - 1) if len(values) > 1 else np.full(1, 0.5)


def hottest(attention: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Indices of the instances with most attention, most first; of equal ones the earlier first.

    Raises:
        ValueError: As ``attention_values`` does.
    """
    return np.argsort(-attention_values(attention), kind="stable")[:count]
