"""What the single test samples of finished runs say of a metric, resampled."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from vision_train.artefacts import Items, read_artefact
from vision_train.errors import UserError
from vision_train.statistics import (
    Resampled,
    group_indices,
    registered_statistic,
    resample_mean,
    resample_statistic,
)
from vision_train.tasks import task_packages

MEAN = "mean"
CACHED_RUNS = 1024


K = TypeVar("K", bound=Hashable)


class Run(Protocol):
    """A finished run, or a phase of one, as far as its test samples go."""

    @property
    def seed(self) -> int:
        """What it was trained with."""

    @property
    def folder(self) -> Path:
        """Where its ``artefacts/`` lie."""


@dataclass(frozen=True)
class CommonSamples:
    """The test samples that all compared runs measured, in one order."""

    metric: str
    """With its split, such as ``test/accuracy``."""
    ids: tuple[str, ...]
    """N, at least 1."""
    groups: tuple[str, ...] | None
    """N; None where each sample is a group of its own."""
    is_mean: bool
    """Whether the metric is the mean of one value a sample in every run."""

    @cached_property
    def _group_indices(self) -> np.ndarray | None:
        return None if self.groups is None else group_indices(self.groups)

    def difference(self, runs: Mapping[K, Run], first: Mapping[K, Run], seeds: Sequence[K]) -> Resampled:
        """The metric of an arm minus that of the first, averaged over the seeds, in each resample of the samples.

        Args:
            runs: Seed, or what stands for one -> finished run of the arm.
            first: The same of the first arm.
            seeds: Those that both have.
        """
        pairs = [(runs[seed].folder, first[seed].folder) for seed in seeds]
        if self.is_mean:
            values = [self._values(theirs) - self._values(ours) for theirs, ours in pairs]
            return resample_mean(np.mean(values, axis=0), self._group_indices)
        resampled = [(self._recomputed(theirs), self._recomputed(ours)) for theirs, ours in pairs]
        return Resampled(
            float(np.mean([theirs.observed - ours.observed for theirs, ours in resampled])),
            np.mean([theirs.values - ours.values for theirs, ours in resampled], axis=0),
            resampled[0][0].groups,
        )

    def _values(self, folder: Path) -> np.ndarray:
        split, _, name = self.metric.partition("/")
        items = read_items(folder, split)
        values = dict(zip(items.ids, items.values[name], strict=True))
        return np.array([values[item] for item in self.ids])

    def _recomputed(self, folder: Path) -> Resampled:
        return _recomputed(folder, self.metric, self.ids, self.groups)


def common_samples(runs: Sequence[Run], metric: str) -> CommonSamples | None:
    """The test samples that all runs measured; None if there are none, or a run says nothing of them for this metric.

    Args:
        runs: Finished runs of all arms and seeds that are compared.
        metric: With its split.
    """
    split, _, name = metric.partition("/")
    found = [read_items(run.folder, split) for run in runs]
    if not found or not all(items.knows(name) for items in found):
        return None
    common = sorted(set.intersection(*(set(items.ids) for items in found)))
    if not common:
        return None
    # Runs of an earlier version know no groups; samples are the same, and so are their groups.
    grouped = next((items for items in found if items.groups is not None), None)
    groups = None
    if grouped is not None and grouped.groups is not None:
        of_id = dict(zip(grouped.ids, grouped.groups, strict=True))
        groups = tuple(of_id[item] for item in common)
    return CommonSamples(metric, tuple(common), groups, all(name in items.values for items in found))


def have_own_samples(runs: Sequence[Run], metric: str) -> bool:
    """Whether each seed has test samples of its own: no two seeds have a sample or a group in common."""
    split, _, _ = metric.partition("/")
    groups: dict[int, set[str]] = {}
    for run in runs:
        items = read_items(run.folder, split)
        groups.setdefault(run.seed, set()).update(items.ids if items.groups is None else items.groups)
    counts = [len(of_seed) for of_seed in groups.values()]
    return len(counts) > 1 and all(counts) and sum(counts) == len(set.union(*groups.values()))


def register_statistics(task: str) -> None:
    """Import a task's code, which registers the statistics that its metrics are recomputed by.

    Args:
        task: A registered name, from a checked recipe.
    """
    import_module(f"{task_packages()[task]}.task")


def forget_items() -> None:
    """Forget what was read of runs: they may have been trained anew since."""
    read_items.cache_clear()
    _recomputed.cache_clear()


# Finished runs alone are read; their files change no more, and the tables are written anew after each run.
@cache
def read_items(folder: Path, split: str) -> Items:
    """What a run knows of single samples of a split; nothing if it left no such file."""
    file = folder / "artefacts" / f"{split}_items.json"
    if not file.is_file():
        return Items(file.stem, [])
    artefact = read_artefact(file)
    assert isinstance(artefact, Items)
    return artefact


@lru_cache(maxsize=CACHED_RUNS)
def _recomputed(folder: Path, metric: str, ids: tuple[str, ...], groups: tuple[str, ...] | None) -> Resampled:
    """A run's metric in each resample.

    Raises:
        UserError: No installed task registers the statistic that the run names.
    """
    split, _, name = metric.partition("/")
    items = read_items(folder, split)
    place = {item: index for index, item in enumerate(items.ids)}
    order = [place[item] for item in ids]
    statistic, columns = MEAN, {"value": items.values.get(name, [])}
    if recomputed := items.recomputed.get(name):
        statistic, columns = recomputed.statistic, items.columns_of(name)
    try:
        recompute = registered_statistic(statistic)
    except ValueError as error:
        file = folder / "artefacts" / f"{items.name}.json"
        raise UserError(f"{file}: {metric} cannot be recomputed ({error}); install the package of its task") from error
    drawn: dict[str, list[Any]] = {column: [entries[index] for index in order] for column, entries in columns.items()}
    return resample_statistic(recompute, drawn, group_indices(groups or ids))
