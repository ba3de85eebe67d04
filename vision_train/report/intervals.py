"""Sampling error of a proportion."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


def wilson_interval(share: float, count: int, z: float = Z_95) -> tuple[float, float]:
    """Interval of a binomial proportion by Wilson's score method (Wilson 1927).

    It keeps its coverage for shares near 0 and 1 and for few items, where the normal approximation fails.

    Args:
        share: Observed proportion, in [0, 1].
        count: Number of independent items it was observed on, at least 1.
        z: Quantile of the standard normal distribution; the default gives 95 %.

    Returns:
        Lower and upper bound, within [0, 1].

    Raises:
        ValueError: If there are no items or the share is not a proportion.
    """
    if count < 1 or not 0 <= share <= 1:
        raise ValueError(f"a share in [0, 1] of at least one item has an interval, got {share} of {count}")
    denominator = 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / denominator
    half_width = z / denominator * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, centre - half_width), min(1.0, centre + half_width)
