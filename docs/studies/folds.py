"""How often the interval over folds raises a false alarm, in simulated cross-validations of two equal arms.

Both arms classify by the nearest class mean, each from features of its own, in which the classes lie equally far apart:
over all samples there could be, neither is better. Each study draws new samples and divides them into folds anew for
each seed. Prints the table of docs/statistics.md.

    OMP_NUM_THREADS=1 python docs/studies/folds.py --studies 500 --seed 0
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from vision_train.statistics import overlap_of, paired_test

WIDTH = 20
"""Features of each arm."""
APART = 0.35
"""Distance of the class means in each feature, in standard deviations."""
Floats = NDArray[np.float64]


def accuracies(generator: np.random.Generator, samples: int, folds: int, seeds: int, gain: float) -> Floats:
    """Accuracy of both arms on each fold of each seed (2 F) on samples that are drawn anew.

    Args:
        generator: Draws samples and folds.
        samples: How many, half of each class.
        folds: How many hold them.
        seeds: Divisions into folds.
        gain: How much farther apart the classes lie for the second arm, as a share.
    """
    labels = np.arange(samples) % 2
    signs = 2 * labels - 1
    found = []
    for apart in (APART, APART * (1 + gain)):
        found.append(generator.normal(size=(samples, WIDTH)) + signs[:, None] * apart / 2)
    values: list[list[float]] = [[], []]
    for _ in range(seeds):
        fold_of = np.empty(samples, dtype=int)
        for label in (0, 1):
            members = generator.permutation(np.flatnonzero(labels == label))
            fold_of[members] = np.arange(len(members)) % folds
        for fold in range(folds):
            tested = fold_of == fold
            for arm, features in enumerate(found):
                means = [features[~tested & (labels == label)].mean(axis=0) for label in (0, 1)]
                middle, direction = (means[0] + means[1]) / 2, means[1] - means[0]
                guessed = ((features[tested] - middle) @ direction > 0).astype(int)
                values[arm].append(float((guessed == labels[tested]).mean()))
    return np.array(values)


def shares_found(studies: int, seed: int, samples: int, folds: int, seeds: int, gain: float) -> tuple[float, float]:
    """Share of studies whose interval excludes 0: with the correction, and by a plain paired t test."""
    generator = np.random.default_rng(seed)
    found = np.zeros(2)
    for _ in range(studies):
        first, second = accuracies(generator, samples, folds, seeds, gain).tolist()
        for place, overlap in enumerate((overlap_of(folds), 0.0)):
            interval = paired_test(first, second, overlap=overlap).interval
            found[place] += interval is not None and interval.excludes_zero
    corrected, plain = found / studies
    return float(corrected), float(plain)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    asked, began = parser.parse_args(), time.monotonic()
    print("| samples | folds | seeds | second arm | corrected | plain t test |\n|---|---|---|---|---|---|")
    for samples, folds, seeds, gain in (
        (100, 5, 1, 0.0),
        (100, 5, 5, 0.0),
        (100, 10, 1, 0.0),
        (400, 5, 1, 0.0),
        (400, 5, 5, 0.0),
        (400, 5, 1, 0.4),
    ):
        corrected, plain = shares_found(asked.studies, asked.seed, samples, folds, seeds, gain)
        better = "equal" if gain == 0 else "better"
        print(
            f"| {samples} | {folds} | {seeds} | {better} | {100 * corrected:.1f} % | {100 * plain:.1f} % |", flush=True
        )
    print(f"\n{asked.studies} studies each, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
