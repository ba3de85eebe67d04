"""The numbers at the head of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vision_train.artefacts import Artefact, Table
from vision_train.report.formats import Metrics, describe, format_number, metric_format, metric_title
from vision_train.report.grid import Cell
from vision_train.report.record import RunRecord
from vision_train.statistics import Interval

DELIVERED = "run/delivered"
"""In the summary, the phase whose weights and figures are the run's, where that is not the last one."""
MATCHED = "checkpoint/matched_share"
"""Share of the weights that a checkpoint filled; 0 where training starts from random ones."""
SHOWN = (MATCHED, "run/seconds", "train/seconds", "train/samples_per_second")
"""Figures that get a tile besides the headline metric and what was measured on the test split."""


@dataclass(frozen=True)
class Tile:
    """One number at the head of the page."""

    label: str
    value: str
    note: str = ""


def headline_tiles(record: RunRecord, intervals: Mapping[str, Interval | None] | None = None) -> list[Tile]:
    """The test value of the headline metric first, then the rest of the test split, then what the run cost.

    A run without a test split shows validation instead. Where the headline metric is never shown, the best known of
    the others takes its place.

    Args:
        record: The run.
        intervals: 95 % interval of each figure that has one, by its name; None where nothing tells it.
    """
    figures = numbers(record.summary)
    # Pre-training has nothing to be tested on.
    split = "test/" if any(key.startswith("test/") for key in figures) else "val/"
    metric = _leading(record, split)
    first = [f"test/{metric}", f"val/{metric}"]
    keys = [*first, *(key for key in figures if key.startswith(split) and key not in first), *SHOWN]
    from_random_weights = not figures.get(MATCHED)
    omitted = {MATCHED: from_random_weights, "run/seconds": not _in_phases(figures)}
    return [
        Tile(
            metric_title(key, record.described),
            metric_format(key, record.described)(figures[key]),
            _remark(record, key, intervals or {}),
        )
        for key in dict.fromkeys(keys)
        if key in figures and not omitted.get(key)
    ]


def _leading(record: RunRecord, split: str) -> str:
    """The headline metric without its split, or the first one of which more is better where that is never shown."""
    chosen = selection(record)["metric"].rpartition("/")[2]
    if describe(chosen, record.described).shown:
        return chosen
    others = (
        name for name, metric in record.described.items() if metric.better == "more" and split + name in record.summary
    )
    return next(others, chosen)


def other_figures(record: RunRecord) -> dict[str, str]:
    """Everything in the summary that has no tile, by its title, but for what says nothing of random weights."""
    shown = {tile.label for tile in headline_tiles(record)}
    figures = {key: value for key, value in record.summary.items() if value or key != MATCHED}
    return {title: text for title, text in written_figures(figures, record.described).items() if title not in shown}


def written_figures(figures: dict[str, Any], described: Metrics) -> dict[str, str]:
    """Flat figures by their titles, as text."""
    return {
        metric_title(key, described): metric_format(key, described)(value) for key, value in numbers(figures).items()
    }


def in_words(table: Table, described: Metrics) -> Table:
    """A table of figures with the titles of its metrics, written as everywhere; those that are never shown left out.

    Any other table stays as it is.
    """
    if table.columns != ["metric", "value"]:
        return table
    rows = [row for row in table.rows if describe(str(row[0]), described).shown]
    return replace(table, rows=[_row_in_words(row, described) for row in rows])


def _row_in_words(row: list[Any], described: Metrics) -> list[Any]:
    name, value = row
    if name not in described or not _is_number(value):
        return row
    return [describe(name, described).title, Cell(metric_format(name, described)(value), value)]


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


def _remark(record: RunRecord, key: str, intervals: Mapping[str, Interval | None]) -> str:
    select = selection(record)
    if key in ("run/seconds", "train/seconds"):
        whose = "all phases" if key == "run/seconds" else _whose(record)
        return whose if _in_phases(numbers(record.summary)) else ""
    if key == select["metric"]:
        epoch = record.summary.get("train/best_epoch")  # from 0, as in the log; of equal epochs the one that was kept
        of_phase = f" of {_whose(record)}" if DELIVERED in record.summary else ""
        return f"best at epoch {epoch + 1}{of_phase}" if isinstance(epoch, int) else ""
    if (interval := intervals.get(key)) is None:
        return "no interval: the test data do not tell how far off it is" if key in intervals else ""
    written = metric_format(key, record.described)
    if written is format_number and describe(key, record.described).is_share:
        written = "{:.3f}".format
    low, high = (written(end) for end in interval)
    items = tested_items(record.artefacts)
    counted = f", {format_number(items[0])} {items[1]}" if items else ""
    return f"95 % interval {low.partition(' ')[0]} to {high}{counted}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
