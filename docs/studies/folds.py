"""How often the interval over folds raises a false alarm, in simulated cross-validations of two equal arms.

Both arms classify by the nearest class mean, each from features of its own, in which the classes lie equally far apart:
over all samples there could be, neither is better. Each study draws new samples and divides them into folds anew for
each seed. Prints the tables of docs/statistics.md. In the second one runs learn from some of the samples that are not
tested: a share is cut for validation, by a rank that every sample keeps, or few of each class are drawn for each run.

    OMP_NUM_THREADS=1 python docs/studies/folds.py --studies 500 --seed 0
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_train.statistics import overlap_of, paired_test

WIDTH = 20
"""Features of each arm."""
APART = 0.35
"""Distance of the class means in each feature, in standard deviations."""
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


class Case(NamedTuple):
    """Studies of one kind."""

    samples: int
    """Half of each class."""
    folds: int
    """How many hold them."""
    seeds: int
    """Divisions into folds."""
    gain: float = 0.0
    """How much farther apart the classes lie for the second arm, as a share."""
    validation: float = 0.0
    """Share of what is not tested that is cut for validation, and not learnt from."""
    drawn: int | None = None
    """Samples of each class that a run learns from; None for all that are left."""

    @property
    def learnt(self) -> float:
        """Samples that a run learns from."""
        left = self.samples * (1 - 1 / self.folds) * (1 - self.validation)
        return left if self.drawn is None else 2 * self.drawn


def accuracies(generator: np.random.Generator, case: Case) -> Floats:
    """Accuracy of both arms on each fold of each seed (2 F) on samples that are drawn anew.

    Args:
        generator: Draws samples and folds.
        case: What is simulated.
    """
    labels = np.arange(case.samples) % 2
    signs = 2 * labels - 1
    found = []
    for apart in (APART, APART * (1 + case.gain)):
        found.append(generator.normal(size=(case.samples, WIDTH)) + signs[:, None] * apart / 2)
    rank = generator.permutation(case.samples) if case.validation else np.arange(case.samples)
    values: list[list[float]] = [[], []]
    for _ in range(case.seeds):
        fold_of = np.empty(case.samples, dtype=int)
        for label in (0, 1):
            members = generator.permutation(np.flatnonzero(labels == label))
            fold_of[members] = np.arange(len(members)) % case.folds
        for fold in range(case.folds):
            tested = fold_of == fold
            learnt = [learnt_from(generator, case, rank, ~tested & (labels == label)) for label in (0, 1)]
            for arm, features in enumerate(found):
                means = [features[members].mean(axis=0) for members in learnt]
                middle, direction = (means[0] + means[1]) / 2, means[1] - means[0]
                guessed = ((features[tested] - middle) @ direction > 0).astype(int)
                values[arm].append(float((guessed == labels[tested]).mean()))
    return np.array(values)


def learnt_from(generator: np.random.Generator, case: Case, rank: Places, untested: NDArray[np.bool_]) -> Places:
    """The samples of a class, of those that are not tested, that a run learns from."""
    members = np.flatnonzero(untested)
    left = members[np.argsort(rank[members])][round(case.validation * len(members)) :]
    return left if case.drawn is None else generator.permutation(left)[: case.drawn]


def shares_found(studies: int, seed: int, case: Case) -> tuple[float, float, float]:
    """Share of studies whose interval excludes 0.

    Returns:
        With the correction of :func:`overlap_of`; with tested samples over those that are learnt from in its place; and
        by a plain paired t test.
    """
    generator = np.random.default_rng(seed)
    found, counted = np.zeros(3), case.samples / case.folds / case.learnt
    for _ in range(studies):
        first, second = accuracies(generator, case).tolist()
        for place, overlap in enumerate((overlap_of(case.folds), counted, 0.0)):
            interval = paired_test(first, second, overlap=overlap).interval
            found[place] += interval is not None and interval.excludes_zero
    corrected, by_learnt, plain = found / studies
    return float(corrected), float(by_learnt), float(plain)


WHOLE = (
    Case(100, 5, 1),
    Case(100, 5, 5),
    Case(100, 10, 1),
    Case(400, 5, 1),
    Case(400, 5, 5),
    Case(400, 5, 1, gain=0.4),
)
PARTLY = (
    *(Case(100, 5, 5, validation=0.1), Case(100, 5, 5, validation=0.4), Case(400, 5, 5, validation=0.4)),
    *(Case(100, 10, 5, validation=0.4), Case(100, 5, 5, validation=0.1, drawn=10)),
)


def sizes(case: Case) -> str:
    """The first cells of a row."""
    return f"{case.samples} | {case.folds} | {case.seeds}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    asked, began = parser.parse_args(), time.monotonic()
    print("| samples | folds | seeds | second arm | corrected | plain t test |\n|---|---|---|---|---|---|")
    for case in WHOLE:
        corrected, _, plain = shares_found(asked.studies, asked.seed, case)
        better = "equal" if case.gain == 0 else "better"
        figures = " | ".join(f"{100 * share:.1f} %" for share in (corrected, plain))
        print(f"| {case.samples} | {case.folds} | {case.seeds} | {better} | {figures} |", flush=True)
    columns = [
        "samples",
        "folds",
        "seeds",
        "cut for validation",
        "drawn of a class",
        "corrected",
        "by what is learnt from",
    ]
    print(f"\n| {' | '.join([*columns, 'plain t test'])} |\n|{'---|' * 8}")
    for case in PARTLY:
        figures = " | ".join(f"{100 * share:.1f} %" for share in shares_found(asked.studies, asked.seed, case))
        drawn = "all" if case.drawn is None else case.drawn
        print(
            f"| {case.samples} | {case.folds} | {case.seeds} | {100 * case.validation:.0f} % | {drawn} | {figures} |",
            flush=True,
        )
    print(f"\n{asked.studies} studies each, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
