"""One tiny task of the calibration study: draws are cut, arms trained, and each draw judged as a run is judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from calibration_images import Features
from calibration_training import Arm, Head, hits, train

from vision_train.seeds import derive_seed
from vision_train.semi.verdict import Contrast, PoolVerdict, best_control, contrast
from vision_train.statistics import resample_mean

LABELLED, LARGER, SELF_POOL = "labelled", "labelled, larger batch", "self-pool"
CONTROLS = (LABELLED, LARGER)
REAL = "real"
NULLS = ("copies", "shuffled", "foreign")

Case = tuple[int, int]
"""Draw and seed."""


@dataclass(frozen=True)
class Task:
    """A tiny task, as the plan has it."""

    index: int
    name: str
    images: str
    classes: tuple[int, ...]
    labels_per_class: int
    method: str

    def null(self, draw: int) -> str:
        """The kind of pool without any use that a draw gets; the kinds take turns over draws and tasks."""
        return NULLS[(self.index + draw) % len(NULLS)]


@dataclass(frozen=True)
class Cut:
    """The images of a draw."""

    test: np.ndarray
    val: np.ndarray
    rest: np.ndarray
    """What labelled images and the pool are drawn from."""


class TaskStudies:
    """All studies of one task.

    Args:
        task: The task.
        plan: The plan, as read.
        features: Of the task's set of images.
    """

    def __init__(self, task: Task, plan: dict[str, Any], features: Features) -> None:
        self.task = task
        self.plan = plan
        self.features = features
        self.targets = torch.full_like(features.labels, -1)
        for index, label in enumerate(task.classes):
            self.targets[features.labels == label] = index
        self._hits: dict[str, dict[Case, np.ndarray]] = {}
        self._validation: dict[str, dict[Case, float]] = {}

    @property
    def studies(self) -> range:
        """Draws that are judged."""
        return range(self.plan["draws"])

    @property
    def fresh(self) -> range:
        """Further draws, which say how large the true gain is."""
        return range(self.plan["draws"], self.plan["draws"] + self.plan["fresh_draws"])

    @cached_property
    def cases(self) -> list[Case]:
        """All seeds of each study, then one seed of each fresh draw."""
        of_studies = [(draw, seed) for draw in self.studies for seed in range(self.plan["seeds"])]
        return of_studies + [(draw, 0) for draw in self.fresh]

    def seed(self, purpose: str, *indices: int) -> int:
        """A seed for one purpose within this task."""
        return derive_seed(self.plan["seed"], f"{self.task.name}/{purpose}", *indices)

    def cut(self, draw: int) -> Cut:
        """Cut the images of a draw at random: those of all seeds are tested and validated on the same images."""
        members = np.flatnonzero(self.targets.numpy() >= 0)
        members = np.random.default_rng(self.seed("cut", draw)).permutation(members)
        sizes = self.plan["sets"][self.task.images]
        counts = [share(sizes[split], self.task.classes) for split in ("test", "val")]
        test, val, rest = np.split(members, np.cumsum(counts))
        return Cut(test, val, rest)

    def labelled(self, draw: int, seed: int) -> np.ndarray:
        """Draw the labelled images of a seed: as many of each class."""
        generator = np.random.default_rng(self.seed("labelled", draw, seed))
        rest = generator.permutation(self.cut(draw).rest)
        targets = self.targets.numpy()[rest]
        of_class = [rest[targets == index][: self.task.labels_per_class] for index in range(len(self.task.classes))]
        return np.concatenate(of_class)

    def pool(self, kind: str, draw: int, seed: int) -> np.ndarray:
        """Indices of the unlabelled images of one kind; the kind ``none`` has none."""
        labelled = self.labelled(draw, seed)
        left = np.setdiff1d(self.cut(draw).rest, labelled)
        scans = len(self.features.labels)
        if kind == "foreign":
            generator = np.random.default_rng(self.seed("foreign", draw, seed))
            return 2 * scans + generator.permutation(self.features.foreign)[: len(left)]
        of_kind = {"none": left[:0], SELF_POOL: labelled, "copies": labelled, REAL: left, "shuffled": scans + left}
        return of_kind[kind]

    def head(self, kind: str, draw: int, seed: int) -> Head:
        """One training; what is random in it is its own, but for the start and the labelled stream of its seed."""
        return Head(
            self.seed("start", draw, seed),
            self.labelled(draw, seed),
            self.pool(kind, draw, seed),
            self.seed(kind, draw, seed),
        )

    def arm(self, method: str = "none", larger: bool = False, factor: float = 1.0) -> Arm:
        """An arm of the plan; ``factor`` multiplies its learning rate."""
        training, batch = self.plan["training"], self.plan["training"]["batch"]
        return Arm(
            method=method,
            batch=2 * batch if larger else batch,
            pool_batch=0 if method == "none" else batch,
            rate=factor * training["rate"],
            steps=training["steps"],
            weight=training["weights"].get(method, 1.0),
            threshold=training["threshold"],
        )

    def measure(self, heads: Sequence[Head], cases: Sequence[Case], arm: Arm) -> Iterator[tuple[np.ndarray, float]]:
        """Train heads; for each, its hits on the test images and its accuracy on validation images."""
        networks = train(self.features, self.targets, heads, arm, self.plan["training"]["hidden"])
        cuts = [self.cut(draw) for draw, _ in cases]
        tested = hits(networks, self.features, [cut.test for cut in cuts], self.targets)
        validated = hits(networks, self.features, [cut.val for cut in cuts], self.targets)
        return zip(tested, validated.mean(axis=1).tolist(), strict=True)

    def record(self, name: str, kind: str, cases: Sequence[Case], arm: Arm) -> None:
        """Train an arm on some cases, and keep what it measured under its name."""
        heads = [self.head(kind, draw, seed) for draw, seed in cases]
        for case, (tested, validated) in zip(cases, self.measure(heads, cases, arm), strict=True):
            self._hits.setdefault(name, {})[case] = tested
            self._validation.setdefault(name, {})[case] = validated

    @cached_property
    def factors(self) -> dict[int, float]:
        """For each draw, the factor of the learning rate that validates best on a seed outside the study."""
        cases = [(draw, self.plan["seeds"]) for draw in (*self.studies, *self.fresh)]
        heads = [self.head("none", draw, seed) for draw, seed in cases]
        grid = self.plan["training"]["grid"]
        found = [[value for _, value in self.measure(heads, cases, self.arm(factor=factor))] for factor in grid]
        return {draw: grid[int(best)] for (draw, _), best in zip(cases, np.argmax(found, axis=0), strict=True)}

    def train_all(self) -> None:
        """Train every arm of every case."""
        for factor in sorted(set(self.factors.values())):
            cases = [case for case in self.cases if self.factors[case[0]] == factor]
            self.record(LABELLED, "none", cases, self.arm(factor=factor))
            self.record(LARGER, "none", cases, self.arm(larger=True, factor=factor))
        method = self.arm(self.task.method)
        self.record(SELF_POOL, SELF_POOL, self.cases, method)
        self.record(REAL, REAL, self.cases, method)
        for kind in NULLS:
            cases = [case for case in self.cases if case[0] in self.studies and self.task.null(case[0]) == kind]
            if cases:
                self.record(kind, kind, cases, method)

    def accuracies(self, name: str, draw: int) -> dict[int, float]:
        """Seed -> test accuracy."""
        return {seed: float(tested.mean()) for (of, seed), tested in self._hits[name].items() if of == draw}

    def contrast(self, name: str, other: str, draw: int) -> Contrast:
        """An arm against another, by the function that runs use."""
        seeds = range(self.plan["seeds"])
        differences = [
            self._hits[name][draw, seed].astype(float) - self._hits[other][draw, seed].astype(float) for seed in seeds
        ]
        resampled = resample_mean(np.mean(differences, axis=0))
        return contrast(other, self.accuracies(name, draw), self.accuracies(other, draw), resampled, "max")

    def verdict(self, pool: str, draw: int) -> PoolVerdict:
        """The verdict on a pool of one kind."""
        validation = {
            name: {seed: value for (of, seed), value in self._validation[name].items() if of == draw}
            for name in CONTROLS
        }
        control = best_control(validation, "max")
        return PoolVerdict(self.task.method, self.contrast(pool, control, draw), self.contrast(pool, SELF_POOL, draw))

    def study_rows(self) -> Iterator[dict[str, Any]]:
        """For each draw the study of its null pool and that of its real pool."""
        for draw in self.studies:
            for pool in (self.task.null(draw), REAL):
                found = self.verdict(pool, draw)
                arms = {"labelled": LABELLED, "larger_batch": LARGER, "self_pool": SELF_POOL, "method": pool}
                yield {
                    "task": self.task.name,
                    "draw": draw,
                    "pool": pool,
                    "rate_factor": self.factors[draw],
                    "control": found.method.other,
                    **columns("", found.method),
                    **columns("pool_", found.pool),
                    "helped": int(found.helped),
                    **{key: shown(self.accuracies(name, draw).values()) for key, name in arms.items()},
                }

    def fresh_rows(self) -> Iterator[dict[str, Any]]:
        """For each fresh draw the accuracy of every arm with the real pool."""
        for draw in self.fresh:
            arms = {"labelled": LABELLED, "larger_batch": LARGER, "self_pool": SELF_POOL, "method": REAL}
            values = {key: shown(self.accuracies(name, draw).values()) for key, name in arms.items()}
            yield {"task": self.task.name, "draw": draw, "rate_factor": self.factors[draw], **values}


def share(images: int, classes: Sequence[int]) -> int:
    """So many images of the whole set of ten classes, in proportion to the classes that a task has."""
    return round(images * len(classes) / 10)


def columns(prefix: str, found: Contrast) -> dict[str, Any]:
    """Columns of the raw table for one contrast."""
    low, high = found.interval or (None, None)
    item_low, item_high = found.item_interval or (None, None)
    numbers = {
        "difference": found.difference,
        "low": low,
        "high": high,
        "item_low": item_low,
        "item_high": item_high,
        "detectable": found.detectable,
    }
    rounded = {prefix + name: "" if value is None else f"{value:.6f}" for name, value in numbers.items()}
    return {**rounded, f"{prefix}verdict": found.verdict}


def shown(values: Any) -> str:
    """Accuracies of all seeds in one field."""
    return " ".join(f"{value:.6f}" for value in values)


def tasks_of(plan: dict[str, Any]) -> list[Task]:
    """The tasks of a plan."""
    return [
        Task(index, of["name"], of["images"], tuple(of["classes"]), of["labels_per_class"], of["method"])
        for index, of in enumerate(plan["tasks"])
    ]
