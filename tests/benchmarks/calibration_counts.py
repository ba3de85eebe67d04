"""What the tables of the calibration study say: counts, their bounds, and the sentence that they allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from vision_train.statistics import SIGNIFICANCE, Interval, detectable_difference, exact_bounds, judge, paired_test

MOST_FALSE = 0.05
"""What "helped" may be said falsely in, as claimed."""
LEAST_FOUND = 0.80
"""Share of true gains above the printed size that has to be found, as claimed."""
REAL = "real"
CONTROLS = {"labelled": "labelled", "labelled, larger batch": "larger_batch"}
"""Column of each control by its name."""

Row = dict[str, Any]


class Count(NamedTuple):
    """How many of some studies have a property."""

    count: int
    total: int

    def __str__(self) -> str:
        if not self.total:
            return "0 of 0"
        low, high = exact_bounds(self.count, self.total)
        share = 100 * self.count / self.total
        return f"{self.count} of {self.total} ({share:.1f} %; bounds {100 * low:.1f} and {100 * high:.1f} %)"

    @property
    def at_most(self) -> float:
        """Upper one-sided 95 % bound by Clopper and Pearson."""
        return exact_bounds(*self).high if self.total else 1.0

    @property
    def at_least(self) -> float:
        """Lower one-sided 95 % bound."""
        return exact_bounds(*self).low if self.total else 0.0


def counted(rows: Iterable[Row], holds: Callable[[Row], bool] = lambda row: row["helped"] == "1") -> Count:
    """How many rows have a property; without one, in how many "helped" was said."""
    told = [holds(row) for row in rows]
    return Count(sum(told), len(told))


def true_gains(fresh: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Task -> what the method gains with the real pool over each other arm: the mean of the fresh draws."""
    gains: dict[str, dict[str, float]] = {}
    for task in dict.fromkeys(row["task"] for row in fresh):
        rows = [row for row in fresh if row["task"] == task]
        gains[task] = {
            other: float(np.mean([float(row["method"]) - float(row[other]) for row in rows]))
            for other in ("labelled", "larger_batch", "self_pool")
        }
    return gains


def above_printed(row: Row, gains: dict[str, dict[str, float]], *, pool: bool = True) -> bool:
    """Whether a study's true gain exceeds the size that it printed.

    Args:
        row: The study.
        gains: From :func:`true_gains`.
        pool: Take the smaller of the gains over the control that it chose and over the self-pool, both of which
            "helped" takes; otherwise the gain over the control alone.
    """
    of_task = gains[row["task"]]
    over_control = of_task[CONTROLS[row["control"]]]
    gain = min(over_control, of_task["self_pool"]) if pool else over_control
    return bool(row["detectable"]) and gain > float(row["detectable"])


def above_larger(row: Row, gains: dict[str, dict[str, float]]) -> bool:
    """Whether a study's true gain over its control exceeds both sizes, as runs have printed since the study."""
    sizes = [float(row[key]) for key in ("detectable", "pool_detectable") if row[key]]
    return bool(sizes) and gains[row["task"]][CONTROLS[row["control"]]] > max(sizes)


def rejudged(row: Row, comparisons: int, images: int) -> Row:
    """A study judged again from its row, with intervals that hold together for so many comparisons.

    The interval over test images is Student's, so that it is widened by the quantiles.

    Args:
        row: As the study wrote it, with one comparison.
        comparisons: How many share the level of 5 %.
        images: How many test images the study had.
    """
    quantiles = [stats.t.ppf(1 - SIGNIFICANCE / count / 2, images - 1) for count in (1, comparisons)]
    found = dict(row)
    for prefix, other in (("", CONTROLS[row["control"]]), ("pool_", "self_pool")):
        ours, theirs = ([float(value) for value in row[key].split()] for key in ("method", other))
        test = paired_test(theirs, ours, comparisons)
        observed, low = float(row[f"{prefix}difference"]), float(row[f"{prefix}item_low"])
        half = (observed - low) * quantiles[1] / quantiles[0]
        found[f"{prefix}verdict"] = judge(test, Interval(observed - half, observed + half), "max")
        size = detectable_difference(test.deviation, len(ours), comparisons) if test.deviation > 0 else ""
        found[f"{prefix}detectable"] = str(size)
    found["helped"] = str(int(found["verdict"] == found["pool_verdict"] == "better"))
    return found


def summary(studies: Sequence[Row], fresh: Sequence[Row]) -> str:
    """Counts and the sentence, as text."""
    nulls, real = [row for row in studies if row["pool"] != REAL], [row for row in studies if row["pool"] == REAL]
    gains = true_gains(fresh)
    gained = [row for row in real if above_printed(row, gains)]
    over_control = [row for row in real if above_printed(row, gains, pool=False)]
    lines = [f'pools of no use, "helped": {counted(nulls)}']
    for kind in dict.fromkeys(row["pool"] for row in nulls):
        of_kind = [row for row in nulls if row["pool"] == kind]
        lines.append(f"  {kind}: {counted(of_kind)}")
        for prefix, other in (("", "the control"), ("pool_", "the self-pool")):
            for word in ("better", "worse"):
                told = counted(of_kind, lambda row, key=f"{prefix}verdict", word=word: row[key] == word)
                lines.append(f"    {word} than {other}: {told}")
    lines += [
        f'real pools, "helped": {counted(real)}',
        f"  true gain above the printed size: {counted(gained)}",
        f"    better than the control: {counted(gained, lambda row: row['verdict'] == 'better')}",
        f"    better than the self-pool: {counted(gained, lambda row: row['pool_verdict'] == 'better')}",
        f"  true gain over the control alone above the printed size: {counted(over_control)}",
        f"  the same above the larger of both sizes: {counted([row for row in real if above_larger(row, gains)])}",
        sentence(counted(nulls), counted(gained)),
        "true gains in points, and studies of real pools that said helped:",
    ]
    for task, of_task in gains.items():
        shown = ", ".join(f"{other} {100 * gain:+.1f}" for other, gain in of_task.items())
        lines.append(f"  {task}: {shown}; {counted(row for row in real if row['task'] == task)}")
    return "\n".join(lines)


def sentence(false: Count, found: Count) -> str:
    """What may be claimed: the promise where the bound keeps it, otherwise the bound alone."""
    wrong = (
        f'"helped" is said falsely in at most {100 * MOST_FALSE:.0f} % of studies'
        if false.at_most < MOST_FALSE
        else f'that "helped" is said falsely in at most {100 * MOST_FALSE:.0f} % of studies is not shown'
    )
    right = (
        f"true gains above the printed size are found in at least {100 * LEAST_FOUND:.0f} %"
        if found.at_least > LEAST_FOUND
        else f"that true gains above the printed size are found in at least {100 * LEAST_FOUND:.0f} % is not shown"
    )
    return (
        f"{wrong} ({false.count} of {false.total}, upper bound {100 * false.at_most:.1f} %); "
        f"{right} ({found.count} of {found.total}, lower bound {100 * found.at_least:.1f} %)"
    )
