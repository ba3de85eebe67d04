"""The numbers at the head of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vision_train.artefacts import Artefact, Table
from vision_train.report.formats import Metrics, describe, format_number, format_percent, metric_format, metric_title
from vision_train.report.record import RunRecord
from vision_train.statistics import wilson_interval

DELIVERED = "run/delivered"
"""In the summary, the phase whose weights and figures are the run's, where that is not the last one."""
SHOWN = ("checkpoint/matched_share", "run/seconds", "train/seconds", "train/samples_per_second")
"""Figures that get a tile besides the headline metric and what was measured on the test split."""


@dataclass(frozen=True)
class Tile:
    """One number at the head of the page."""

    label: str
    value: str
    note: str = ""


def headline_tiles(record: RunRecord) -> list[Tile]:
    """The test value of the headline metric first, then the rest of the test split, then what the run cost.

    A run without a test split shows validation instead.

    A share of test items carries its 95 % Wilson interval if the number of items is known.
    """
    select = selection(record)
    figures = numbers(record.summary)
    first = [f"test/{select['metric'].rpartition('/')[2]}", select["metric"]]
    # Pre-training has nothing to be tested on.
    split = "test/" if any(key.startswith("test/") for key in figures) else "val/"
    keys = [*first, *(key for key in figures if key.startswith(split) and key not in first), *SHOWN]
    from_random_weights = not figures.get("checkpoint/matched_share")
    omitted = {"checkpoint/matched_share": from_random_weights, "run/seconds": not _in_phases(figures)}
    return [
        Tile(
            metric_title(key, record.described),
            metric_format(key, record.described)(figures[key]),
            _remark(record, key),
        )
        for key in keys
        if key in figures and not omitted.get(key)
    ]


def other_figures(record: RunRecord) -> dict[str, str]:
    """Everything in the summary that has no tile, by its title."""
    shown = {tile.label for tile in headline_tiles(record)}
    return {
        title: text for title, text in written_figures(record.summary, record.described).items() if title not in shown
    }


def written_figures(figures: dict[str, Any], described: Metrics) -> dict[str, str]:
    """Flat figures by their titles, as text."""
    return {
        metric_title(key, described): metric_format(key, described)(value) for key, value in numbers(figures).items()
    }


def numbers(values: dict[str, Any]) -> dict[str, float]:
    """The entries that are numbers."""
    return {key: value for key, value in values.items() if _is_number(value)}


def selection(record: RunRecord) -> dict[str, str]:
    """The headline metric and its mode, as the recipe says."""
    select = (record.recipe.get("run") or {}).get("select") or {}
    return {"metric": "val/accuracy", "mode": "max", **select}


def tested_items(artefacts: Sequence[Artefact]) -> tuple[int, str] | None:
    """How many items were tested and what they are, such as ``(300, "images")``.

    It is the first row of the table ``test_summary``; None if there is no such table or row.
    """
    for artefact in artefacts:
        if isinstance(artefact, Table) and artefact.name == "test_summary" and artefact.rows:
            name, count, *_ = [*artefact.rows[0], None, None]
            if isinstance(count, int) and count >= 1:
                return count, str(name)
    return None


def _in_phases(figures: dict[str, float]) -> bool:
    """Whether the run took longer than the phase that its figures are of."""
    return "run/seconds" in figures and figures["run/seconds"] != figures.get("train/seconds")


def _whose(record: RunRecord) -> str:
    """The phase that the figures are of."""
    return f"phase {record.summary[DELIVERED]}" if DELIVERED in record.summary else "the last phase"


def _remark(record: RunRecord, key: str) -> str:
    select = selection(record)
    if key in ("run/seconds", "train/seconds"):
        whose = "all phases" if key == "run/seconds" else _whose(record)
        return whose if _in_phases(numbers(record.summary)) else ""
    if key == select["metric"]:
        epoch = record.summary.get("train/best_epoch")  # from 0, as in the log; of equal epochs the one that was kept
        of_phase = f" of {_whose(record)}" if DELIVERED in record.summary else ""
        return f"best at epoch {epoch + 1}{of_phase}" if isinstance(epoch, int) else ""
    items = tested_items(record.artefacts)
    share, is_proportion = record.summary[key], describe(key, record.described).is_proportion
    if not (key.startswith("test/") and is_proportion) or items is None or not 0 <= share <= 1:
        return ""
    low, high = wilson_interval(share, items[0])
    return f"95 % interval {100 * low:.1f} to {format_percent(high)}, {format_number(items[0])} {items[1]}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
