"""How numbers and metric names are written for a reader."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

SPLITS = ("train", "val", "test")
"""Prefixes of metric names that say on what the metric was measured."""


def format_number(value: float) -> str:
    """Four significant digits, thousands separated; whole numbers in full."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"


def format_rate(value: float) -> str:
    """Items a second: three significant digits below ten, else whole numbers; more is noise."""
    return f"{value:.3g}" if abs(value) < 10 else format_number(round(value) if math.isfinite(value) else value)


def format_percent(value: float) -> str:
    """A share in [0, 1] as a percentage with one decimal."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else format_number(value)


def format_duration(seconds: float) -> str:
    """Seconds in the largest units that matter: ``3.2 s``, ``1 min 12 s``, ``2 h 05 min``."""
    if not math.isfinite(seconds):
        return format_number(seconds)
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        return "{} min {:02d} s".format(*divmod(round(seconds), 60))
    return "{} h {:02d} min".format(*divmod(round(seconds / 60), 60))


def format_bytes(count: float) -> str:
    """Bytes in binary units: ``512 MiB``, ``1.5 GiB``."""
    if not math.isfinite(count):
        return format_number(count)
    power = min(max(int(math.log(max(abs(count), 1), 1024)), 0), 4)
    return f"{count / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def format_epoch(epoch: float) -> str:
    """An epoch as people count them: the files count from 0."""
    return format_number(epoch + 1)


Written = Callable[[float], str]

KNOWN: dict[str, tuple[str, Written]] = {
    "accuracy": ("accuracy", format_percent),
    "accuracy_top5": ("top-5 accuracy", format_percent),
    "acc1": ("positions right", format_percent),
    "acc1_weighted": ("positions right, weighted", format_percent),
    "hard_ce": ("cross-entropy of positions", format_number),
    "grid_distance": ("mean grid distance, in patches", format_number),
    "probe_accuracy": ("accuracy of the linear probe", format_percent),
    "calibration_error": ("calibration error", format_percent),
    "auroc": ("AUROC", format_number),
    "f1": ("F1", format_number),
    "f1_and_auroc": ("F1 + AUROC", format_number),
    "attention_entropy": ("entropy of attention, of ln N", format_number),
    "attention_top10": ("attention on the ten hottest", format_percent),
    "matched_share": ("weights matched", format_percent),
    "samples_per_second": ("samples per second", format_rate),
    "data_wait": ("waiting for data", format_percent),
    "seconds": ("time", format_duration),
    "peak_memory_bytes": ("peak memory", format_bytes),
    "best_epoch": ("best epoch", format_epoch),
    "lr": ("learning rate", format_number),
}
"""Metric name without its split -> title and how a value is written. Others are written as plain numbers."""


def metric_title(name: str) -> str:
    """Readable title of a metric, with or without its split: ``test/accuracy`` -> ``Test accuracy``."""
    split, _, rest = name.rpartition("/")
    title = KNOWN[rest][0] if rest in KNOWN else rest.replace("_", " ")
    full = f"{split} {title}" if split else title
    return full[:1].upper() + full[1:]


def metric_format(name: str) -> Written:
    """How the values of a metric are written."""
    return KNOWN.get(name.rpartition("/")[2], ("", format_number))[1]


def format_cell(value: Any) -> str:
    """Any value from a JSON file as text; nested ones as ``key: value`` pairs."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return format_number(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {format_cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(format_cell(item) for item in value)
    return str(value)
