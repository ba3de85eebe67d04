"""How often the interval over test samples covers the truth, in simulated studies.

Each study draws new test samples, measures two fixed arms on them and takes the interval of the difference of their
metric. The truth is the difference on very many samples. Prints the table of docs/statistics.md.

    OMP_NUM_THREADS=1 python docs/studies/coverage.py --studies 1000 --resamples 400 --seed 0
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vision_train.statistics import (
    Resampled,
    bootstrap_interval,
    registered_statistic,
    resample_mean,
    resample_statistic,
)

Columns = dict[str, list[Any]]
Draw = Callable[[np.random.Generator, int], tuple[list[Columns], np.ndarray]]
"""(generator, groups) -> columns of both arms on the same N items, and the group of each item (N)."""
LARGE = 100_000
"""Groups on which the truth is measured."""


class Case(NamedTuple):
    """A kind of study."""

    title: str
    statistic: str
    groups: int
    draw: Draw


class Coverage(NamedTuple):
    """Shares of studies."""

    ours: float
    """Studies whose interval covers the truth."""
    percentile: float
    """The same for plain percentiles of the resamples, for comparison."""
    truth: float


def grouped_hits(generator: np.random.Generator, groups: int) -> tuple[list[Columns], np.ndarray]:
    """Hits on groups of 1 to about 8 items that are easy or hard together."""
    group = np.repeat(np.arange(groups), 1 + generator.poisson(3, groups))
    ease = generator.normal(0, 0.15, groups)[group]
    chances = (0.65 + 0.5 * ease, 0.70 + ease)
    return [{"value": (generator.random(len(group)) < chance).astype(float).tolist()} for chance in chances], group


def scored_bags(gains: tuple[float, float], most: int = 1) -> Draw:
    """Bags of two classes: scores share what makes a bag easy; 1 to ``most`` bags of a patient share class and ease."""

    def draw(generator: np.random.Generator, groups: int) -> tuple[list[Columns], np.ndarray]:
        group = np.repeat(np.arange(groups), generator.integers(1, most + 1, groups))
        labels = generator.integers(0, 2, groups)[group]
        ease = generator.normal(0, 0.8, groups)[group] + generator.normal(0, 0.6, len(group))
        arms = []
        for gain in gains:
            score = ease + (1 + gain) * labels + generator.normal(0, 0.7, len(group))
            positive = 1 / (1 + np.exp(-score))
            probabilities = np.stack([1 - positive, positive], axis=1)
            arms.append({"label": labels.tolist(), "probabilities": probabilities.tolist()})
        return arms, group

    return draw


def detections(generator: np.random.Generator, groups: int) -> tuple[list[Columns], np.ndarray]:
    """Images with 2 objects on average, some harder than others; one arm finds more and has fewer false alarms."""
    ease, truths = generator.normal(0, 0.5, groups), generator.poisson(2, groups)
    arms = []
    for quality, false_alarms in ((1.0, 1.5), (1.5, 1.2)):
        found = generator.binomial(truths, 1 / (1 + np.exp(-(quality + ease))))
        wrong = generator.poisson(false_alarms, groups)
        pairs = list(zip(found.tolist(), wrong.tolist(), ease.tolist(), strict=True))
        scores = [
            [*generator.normal(1 + easy / 2, 1, hits).tolist(), *generator.normal(-0.3, 1, misses).tolist()]
            for hits, misses, easy in pairs
        ]
        hit = [[1.0] * hits + [0.0] * misses for hits, misses, _ in pairs]
        arms.append({"score": scores, "hit": hit, "truths": truths.tolist()})
    return arms, np.arange(groups)


def predicted_classes(generator: np.random.Generator, groups: int) -> tuple[list[Columns], np.ndarray]:
    """Three classes, of 15, 35 and 50 % of the samples."""
    labels = generator.choice(3, groups, p=[0.15, 0.35, 0.5])
    shared = generator.normal(0, 1, (groups, 3))
    arms = []
    for gain in (1.0, 1.3):
        logits = shared + generator.normal(0, 0.7, (groups, 3)) + gain * np.eye(3)[labels]
        arms.append({"label": labels.tolist(), "predicted": logits.argmax(axis=1).tolist()})
    return arms, np.arange(groups)


def confidences(scales: tuple[float, float]) -> Draw:
    """Confidences of logits that are too large by a factor."""

    def draw(generator: np.random.Generator, groups: int) -> tuple[list[Columns], np.ndarray]:
        shared = generator.normal(1, 1.5, groups)
        arms = []
        for scale in scales:
            logits = shared + generator.normal(0, 0.5, groups)
            correct = generator.random(groups) < 1 / (1 + np.exp(-logits))
            confidence = 1 / (1 + np.exp(-scale * logits))
            arms.append({"confidence": confidence.tolist(), "correct": correct.astype(float).tolist()})
        return arms, np.arange(groups)

    return draw


CASES = [
    Case("accuracy, 20 groups of about 4", "mean", 20, grouped_hits),
    Case("accuracy, 100 groups of about 4", "mean", 100, grouped_hits),
    Case("AUROC, 100 bags", "macro_auroc", 100, scored_bags((0.0, 0.5))),
    Case("AUROC, 60 patients of 1 to 4 bags", "macro_auroc", 60, scored_bags((0.0, 0.5), most=4)),
    Case("AUROC above 0.9, 100 bags", "macro_auroc", 100, scored_bags((1.5, 2.5))),
    Case("AP, 200 images", "average_precision", 200, detections),
    Case("AP, 50 images", "average_precision", 50, detections),
    Case("macro F1, 100 images", "macro_f1", 100, predicted_classes),
    Case("calibration error, both arms poor, 300 images", "calibration_error", 300, confidences((1.5, 2.0))),
    Case("calibration error, one arm good, 300 images", "calibration_error", 300, confidences((1.1, 1.5))),
]


def difference(case: Case, arms: list[Columns], group: np.ndarray, resamples: int, seed: int) -> Resampled:
    """The second arm minus the first in each resample, as ``compare`` takes it."""
    if case.statistic == "mean":
        first, second = (np.array(arm["value"]) for arm in arms)
        return resample_mean(second - first, group, resamples, seed)
    statistic = registered_statistic(case.statistic)
    first, second = (resample_statistic(statistic, arm, group, resamples, seed) for arm in arms)
    return Resampled(second.observed - first.observed, second.values - first.values, first.groups)


def true_difference(case: Case, seed: int) -> float:
    """The second arm minus the first on very many samples."""
    arms, group = case.draw(np.random.default_rng([seed, 1]), LARGE)
    statistic = registered_statistic(case.statistic)
    first, second = (float(statistic(arm, np.ones((1, len(group))))[0]) for arm in arms)
    return second - first


def coverage(case: Case, studies: int, resamples: int, seed: int) -> Coverage:
    """Simulate studies of one kind."""
    truth, generator = true_difference(case, seed), np.random.default_rng([seed, 2])
    ours, percentile = 0, 0
    for study in range(studies):
        resampled = difference(case, *case.draw(generator, case.groups), resamples, study)
        interval = bootstrap_interval(resampled)
        ours += interval is not None and interval.low <= truth <= interval.high
        low, high = np.nanquantile(resampled.values, [0.025, 0.975])
        percentile += low <= truth <= high
    return Coverage(ours / studies, percentile / studies, truth)


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--studies", 1000), ("--resamples", 400), ("--seed", 0)):
        parser.add_argument(name, type=int, default=default)
    options = parser.parse_args()
    print("| metric of the difference | truth | covered | by percentiles | seconds |\n|---|---|---|---|---|")
    for case in CASES:
        began = time.monotonic()
        found = coverage(case, options.studies, options.resamples, options.seed)
        row = f"| {case.title} | {found.truth:.3f} | {100 * found.ours:.1f} % | {100 * found.percentile:.1f} % |"
        print(row, f"{time.monotonic() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()
