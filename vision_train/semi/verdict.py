"""Whether a method that learns from unlabelled images helped, and whether the images did: pure arithmetic of arms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vision_train.statistics import (
    Interval,
    Resampled,
    Verdict,
    bootstrap_interval,
    detectable_difference,
    judge,
    paired_test,
)

FEWEST_SEEDS = 3
WORDS: dict[Verdict, str] = {"better": "better", "worse": "worse"}
"""Everything else is not measurably different."""
NOTHING_LEARNT = (
    "Nothing was learnt: in each arm most seeds cannot be told from guessing, so that the differences say nothing of "
    "the method or the pool. Train longer (trainer.max_steps or trainer.max_epochs), change optim.lr, or start from "
    "weights with model.checkpoint."
)
"""Said before everything else, since arms that all guess are of course not measurably different."""


Written = Callable[[float], str]


def in_points(difference: float) -> str:
    """A difference of two shares in points, with its sign."""
    return f"{100 * difference:+.1f}"


def is_at_chance(arms: Mapping[str, Sequence[bool]]) -> bool:
    """Whether no arm learnt anything: most seeds of each could be guessing.

    Most, not all: one of twenty results of guessing is better than what is put down to luck, and a verdict has more
    runs than that.

    Args:
        arms: Name of each arm -> whether the result of each of its seeds could be that of guessing.
    """
    return bool(arms) and all(2 * sum(of_seeds) > len(of_seeds) for of_seeds in arms.values())


def best_control(validation: Mapping[str, Mapping[int, float]], mode: str) -> str:
    """The control that a method has to beat: the one that is best on **validation** samples, never on test samples.

    Args:
        validation: Name of each control -> seed -> its metric on validation samples; all have the same seeds.
        mode: ``max`` if more is better, ``min`` if less is.

    Returns:
        Its name; of equal ones the first. One without a metric on some seed (NaN) is the last choice.

    Raises:
        ValueError: There is no control, or their seeds differ.
    """
    if not validation or len({frozenset(of_seed) for of_seed in validation.values()}) > 1:
        raise ValueError("controls are compared over the same seeds, and at least one control is needed")
    sign = 1.0 if mode == "max" else -1.0
    means = {name: sign * float(np.mean([*of_seed.values()])) for name, of_seed in validation.items()}
    return max(means, key=lambda name: -math.inf if math.isnan(means[name]) else means[name])


@dataclass(frozen=True)
class Contrast:
    """The method minus another arm, over the seeds of both."""

    other: str
    """Name of the other arm."""
    seeds: int
    difference: float
    """Mean over the seeds."""
    interval: Interval | None
    """Over the seeds; None where all differences are the same."""
    item_interval: Interval | None
    """Over test samples."""
    detectable: float | None
    """The smallest difference that a study of so many seeds, with this spread, finds in 80 % of cases; None where the
    differences do not spread."""
    verdict: Verdict


def contrast(
    other: str,
    values: Mapping[int, float],
    other_values: Mapping[int, float],
    resampled: Resampled | None,
    mode: str,
    *,
    comparisons: int = 1,
    own_samples: bool = False,
) -> Contrast:
    """Compare the method with another arm, as ``compare`` does: paired within seeds, and over test samples.

    Args:
        other: Name of the other arm.
        values: Seed -> test metric of the method.
        other_values: Seed -> test metric of the other arm.
        resampled: The method minus the other arm, averaged over the seeds, in each resample of the test samples; None
            if the metric cannot be computed of single test samples.
        mode: ``max`` if more is better, ``min`` if less is.
        comparisons: How many share the level of 5 % (Bonferroni).
        own_samples: Whether each seed has test samples of its own: then the seeds alone decide.

    Raises:
        ValueError: The two have fewer than three seeds in common.
    """
    seeds = sorted(values.keys() & other_values.keys())
    if len(seeds) < FEWEST_SEEDS:
        raise ValueError(f"a verdict takes at least {FEWEST_SEEDS} seeds that both arms finished, got {len(seeds)}")
    test = paired_test([other_values[seed] for seed in seeds], [values[seed] for seed in seeds], comparisons)
    items = None if resampled is None else bootstrap_interval(resampled, comparisons)
    return Contrast(
        other=other,
        seeds=len(seeds),
        difference=test.difference,
        interval=test.interval,
        item_interval=items,
        detectable=detectable_difference(test.deviation, len(seeds), comparisons) if test.deviation > 0 else None,
        verdict=judge(test, items, mode, own_samples),
    )


@dataclass(frozen=True)
class PoolVerdict:
    """What the method brings, and what of it the pool brings."""

    arm: str
    """Name of the method's arm."""
    method: Contrast
    """Against the best control that learns from labelled images alone."""
    pool: Contrast
    """Against the same method with the labelled images as its pool: the same augmentation, teacher and regularisation,
    and no new image."""
    at_chance: bool = False
    """Whether no arm learnt anything, so that their differences say nothing of the method and its pool."""

    @property
    def helped(self) -> bool:
        """Whether the method is better than the best control, and than itself without new images."""
        return self.method.verdict == self.pool.verdict == "better" and not self.at_chance

    @property
    def detectable(self) -> float | None:
        """The smallest true gain of which this study finds in 80 % of cases that it helped; None without any spread.

        "Helped" takes both differences, so that it is the larger of the two sizes.
        """
        sizes = [each.detectable for each in (self.method, self.pool) if each.detectable is not None]
        return max(sizes, default=None)

    def summary(self) -> dict[str, Any]:
        """Entries for a run's summary."""
        return {
            "verdict/arm": self.arm,
            "verdict/control": self.method.other,
            **_entries("verdict/", self.method),
            **_entries("verdict/pool_", self.pool),
            "verdict/detectable": self.detectable,
            "verdict/helped": self.helped,
            "verdict/at_chance": self.at_chance,
        }

    def sentence(self, test_samples: int, written: Written = in_points, unit: str = " points", worth: str = "") -> str:
        """The verdict in words.

        Args:
            test_samples: How many the arms were tested on.
            written: A difference as text with its sign, without the unit.
            unit: What follows it.
            worth: What the pool is worth in labels, a sentence; empty if unknown.
        """
        method, pool = self.method, self.pool
        found = ""
        if self.detectable is not None:
            found = f"; this study could see {written(self.detectable).lstrip('+')}{unit} or more"
        measurably = "" if pool.verdict in WORDS else ", not measurably"
        learnt = "The pool helped." if self.helped else "That the pool helped is not shown."
        said = [
            NOTHING_LEARNT if self.at_chance else learnt,
            f"{self.arm} is {WORDS.get(method.verdict, 'not measurably different')}: {_shown(method, written, unit)}"
            f"; {method.seeds} seeds, {test_samples} test samples) against the best control, {method.other}{found}.",
            f"The pool itself adds {_shown(pool, written, unit)}){measurably}.",
            worth,
            "" if self.at_chance else _next_step(method if method.verdict not in WORDS else pool),
        ]
        return " ".join(part for part in said if part)


def _entries(prefix: str, of: Contrast) -> dict[str, float | None]:
    low, high = of.interval or (None, None)
    return {f"{prefix}difference": of.difference, f"{prefix}low": low, f"{prefix}high": high}


def _shown(of: Contrast, written: Written, unit: str) -> str:
    """Difference and interval, with a bracket that is still open."""
    interval = "the same on every seed"
    if of.interval is not None:
        interval = f"{written(of.interval.low)} to {written(of.interval.high)}"
    return f"{written(of.difference)}{unit} ({interval}"


def _next_step(of: Contrast) -> str:
    """After a difference that is not measurable, what would tell."""
    if of.verdict in WORDS:
        return ""
    if of.verdict in ("ahead", "behind"):
        return f"The seeds agree on the difference to {of.other}, the test samples do not: test on more samples."
    return f"More seeds could tell the difference to {of.other}."
