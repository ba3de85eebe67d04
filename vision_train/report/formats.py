"""How numbers and metric names are written for a reader."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vision_train.artefacts import Metric
from vision_train.wording import percent


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
    return percent(value, 1) if math.isfinite(value) else format_number(value)


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


NumberFormat = Callable[[float], str]
FORMATS: dict[str, NumberFormat] = {"number": format_number, "percent": format_percent}


@dataclass(frozen=True)
class Described:
    """How one metric is shown."""

    title: str
    written: NumberFormat = format_number
    is_proportion: bool = False
    """A share of independent items, so that it has a binomial interval."""
    shown: bool = True
    is_share: bool = False
    """Lies in [0, 1]."""
    bounds: tuple[float | None, float | None] = (None, None)
    """What it can be no less and no more than."""


ENGINE: dict[str, Described] = {
    "matched_share": Described("weights matched", format_percent, is_share=True),
    "samples_per_second": Described("samples per second", format_rate),
    "data_wait": Described("waiting for data", format_percent, is_share=True),
    "seconds": Described("time", format_duration),
    "peak_memory_bytes": Described("peak memory", format_bytes),
    "best_epoch": Described("best epoch", format_epoch),
    "lr": Described("learning rate"),
    "pool_loss_ratio": Described("loss of unlabelled over that of labelled samples"),
}
"""What every run measures, by its name without ``train/`` or ``checkpoint/``."""

Metrics = Mapping[str, Metric]
"""Descriptions of a task's metrics, by their names."""


def describe(name: str, metrics: Metrics) -> Described:
    """How a metric is shown: the only place that looks up what is known of it.

    Args:
        name: With or without its split.
        metrics: What the task says of its metrics.

    Returns:
        Its description, the title without the split. One that nobody describes is a plain number called by its name.
    """
    own = name.rpartition("/")[2]
    if own in ENGINE:
        return ENGINE[own]
    if (metric := metrics.get(own)) is None:
        return Described(own.replace("_", " "))
    is_share = metric.is_share or metric.format == "percent"
    return Described(
        metric.title,
        FORMATS[metric.format],
        metric.is_proportion,
        metric.shown != "never",
        is_share,
        (metric.lowest, metric.highest),
    )


def metric_title(name: str, metrics: Metrics) -> str:
    """Readable title of a metric, with or without its split: ``test/accuracy`` -> ``Test accuracy``."""
    full = name_in_words(name, metrics)
    return full[:1].upper() + full[1:]


def name_in_words(name: str, metrics: Metrics) -> str:
    """The same within a sentence: ``test/accuracy`` -> ``test accuracy``."""
    split = name.rpartition("/")[0].replace("_", " ")
    title = describe(name, metrics).title
    return f"{split} {title}" if split else title


def in_words(name: str, value: float, metrics: Metrics) -> str:
    """A metric and its value on one line of a terminal: ``test/accuracy`` -> ``test accuracy 96.7 %``.

    Args:
        name: With or without its split.
        value: Of the metric.
        metrics: What the task says of its metrics.
    """
    split, _, _ = name.rpartition("/")
    described = describe(name, metrics)
    return f"{f'{split} ' if split else ''}{described.title} {described.written(value)}"


def metric_format(name: str, metrics: Metrics) -> NumberFormat:
    """How the values of a metric are written."""
    return describe(name, metrics).written


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
