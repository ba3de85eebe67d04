"""95 % intervals of the figures of a run, from what it keeps of every test item."""

from __future__ import annotations

from itertools import chain

import numpy as np

from vision_train.artefacts import Items
from vision_train.report.formats import Described, describe
from vision_train.report.headline import numbers, tested_items
from vision_train.report.record import RunRecord
from vision_train.statistics import (
    Interval,
    Resampled,
    bootstrap_interval,
    group_indices,
    registered_statistic,
    resample_mean,
    resample_statistic,
    wilson_interval,
)

FEWEST_RESAMPLES, MOST_RESAMPLES = 200, 2_000
"""They estimate a standard error, which is then known to 5 % or 2 %."""
SAME = 1e-3
"""What a metric may differ by from the same of the items: libraries round otherwise."""
WORK = 400_000_000
"""Entries that are drawn at most, as long as the fewest resamples allow it: a report is to take seconds."""


def figure_intervals(record: RunRecord) -> dict[str, Interval | None]:
    """Intervals of the figures of the tested split: what other test items of the kind might have shown.

    A share of single items has Wilson's interval; items of one group, such as those of a patient, are no single
    items. All other metrics are recomputed on resampled groups. Where every item is right, or none, no resample
    differs: the share then has Wilson's interval of as many items as there are groups.

    Args:
        record: The run.

    Returns:
        By the name of the figure: None where the items do not tell how far off it is, such as an AUROC of 1 or of two
        items. Figures that the items do not say are left out.
    """
    found = {artefact.name: artefact for artefact in record.artefacts if isinstance(artefact, Items)}
    intervals: dict[str, Interval | None] = {}
    for key, value in numbers(record.summary).items():
        split, _, name = key.partition("/")
        items = found.get(f"{split}_items")
        if items is None and split != "test":
            continue
        items = items or Items("test_items", [])
        if (interval := _of_counted(record, items, name, value)) is not None:
            intervals[key] = interval
        elif (resampled := _resampled(items, name)) is not None and abs(resampled.observed - value) < SAME:
            intervals[key] = _of_resampled(resampled, describe(name, record.described), value)
    return intervals


def _of_counted(record: RunRecord, items: Items, name: str, value: float) -> Interval | None:
    """Wilson's interval of a share of single items; None of any other figure."""
    is_proportion = describe(name, record.described).is_proportion
    if not is_proportion or items.groups is not None or (items.ids and name not in items.values):
        return None
    counted = (len(items.ids), "") if items.ids else tested_items(record.artefacts)
    return wilson_interval(value, counted[0]) if counted and 0 <= value <= 1 else None


def _of_resampled(resampled: Resampled, described: Described, value: float) -> Interval | None:
    if described.is_proportion and value in (0, 1):
        return wilson_interval(value, resampled.groups)
    return bootstrap_interval(resampled, share=described.is_share, bounds=described.bounds)


def _resampled(items: Items, name: str) -> Resampled | None:
    """The metric on resampled items; None where they do not say it, or no installed task knows how."""
    groups = group_indices(items.groups or items.ids) if items.ids else np.zeros(0)
    if name in items.values and items.ids:
        return resample_mean(np.asarray(items.values[name]), None if items.groups is None else groups)
    if name not in items.recomputed or not items.ids:
        return None
    columns = items.columns_of(name)
    try:
        statistic = registered_statistic(items.recomputed[name].statistic)
    except ValueError:  # of a task that is not installed here
        return None
    entries = sum(len(entry) if isinstance(entry, list) else 1 for entry in chain(*columns.values()))
    resamples = min(max(WORK // entries, FEWEST_RESAMPLES), MOST_RESAMPLES)
    return resample_statistic(statistic, columns, groups, resamples)
