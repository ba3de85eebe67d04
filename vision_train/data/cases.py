"""Splits of samples with a class, by the patients or specimens that they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from vision_train.data.classes import divide
from vision_train.data.sample import Sample
from vision_train.wording import first_named

FEWEST = 3
"""Cases of a class that leave one in each split."""
S = TypeVar("S", bound=Sample)


@dataclass(frozen=True, slots=True)
class Case:
    """A patient or specimen, which stands for its samples of one split when others are cut."""

    id: str
    truth: str
    """Class of most of these samples."""
    split: str
    """`train`, `val` or `test`."""


def divide_by_cases(samples: list[S], shares: Mapping[str, float] | None) -> dict[str, list[S]]:
    """Sort samples into train, val and test.

    A split that the samples name is taken as it is. Each of val and test that none names is cut from the training
    samples (:func:`vision_train.data.classes.divide`), but by cases, so that the samples of one stay together.

    Args:
        samples: Those without a split count as training samples.
        shares: Shares of val and test.

    Raises:
        UserError: A class has too few cases to leave one in every split.
    """
    divided = divide(_cases(samples), shares, "case")
    split_of = {(case.id, case.split): name for name, cases in divided.items() for case in cases}
    splits: dict[str, list[S]] = {name: [] for name in divided}
    for sample in samples:
        splits[split_of[_key(sample)]].append(sample)
    return splits


def shared_cases(splits: Mapping[str, Sequence[Sample]], noun: str) -> list[str]:
    """A sentence about cases whose samples are in several splits, as they may be where a file names the splits."""
    found: dict[str, dict[str, None]] = {}
    for name, samples in splits.items():
        for sample in samples:
            if sample.group is not None:
                found.setdefault(sample.group, {})[name] = None
    shared = [f"{case} ({' and '.join(names)})" for case, names in found.items() if len(names) > 1]
    if not shared:
        return []
    return [f"cases with {noun} in several splits, so the test metrics may be too high: {first_named(shared)}"]


def _key(sample: Sample) -> tuple[str, str]:
    return sample.group or sample.id, sample.split or "train"


def _cases(samples: Sequence[Sample]) -> list[Case]:
    held: dict[tuple[str, str], Counter[str]] = {}
    for sample in samples:
        held.setdefault(_key(sample), Counter())[str(sample.truth)] += 1
    cases = [Case(case, max(sorted(counts), key=counts.__getitem__), split) for (case, split), counts in held.items()]
    most = Counter(case.truth for case in cases)
    holding = Counter(label for counts in held.values() for label in counts)
    # A class that few cases have mostly, but enough have at all, is cut along with the others.
    few = {label for label, count in most.items() if count < FEWEST <= holding[label]}
    common = most.most_common(1)[0][0]
    return [replace(case, truth=common) if case.truth in few else case for case in cases]
