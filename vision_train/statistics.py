"""Sampling error of what is measured on a test set."""

from __future__ import annotations


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a binomial proportion by Wilson's score method.

    It keeps its coverage for shares near 0 and 1 and for few items, where the normal approximation fails.

    Args:
        share: Observed proportion, in [0, 1].
        count: Number of independent items it was observed on, at least 1.

    Returns:
        Lower and upper bound, within [0, 1].

    Raises:
        ValueError: There are no items or the share is not a proportion.
    """
    from scipy.stats import binomtest

    if count < 1 or not 0 <= share <= 1:
        raise ValueError(f"a share in [0, 1] of at least one item has an interval, got {share} of {count}")
    interval = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
