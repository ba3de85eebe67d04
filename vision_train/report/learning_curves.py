"""Lines of metrics.jsonl as charts, one a metric, with one line a split."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from vision_train.data.kind import SPLITS
from vision_train.report.charts import Line, LineChart
from vision_train.report.formats import Metrics, describe, metric_format, metric_title
from vision_train.report.line_chart import line_chart
from vision_train.semi.health_log import ADDED, PREFIX, SHARES

OBJECTIVE = ", as training minimises it: a sum of terms"
"""After the name of what training minimises, where that is another quantity than what validation measures."""
PLACE = {"phase", "epoch", "step", "time"}
"""Keys that say when a line was written, not what was measured."""
LOSS = "loss"
LAST = ("lr", "samples_per_second", "data_wait")
SCHEDULE = "lr"
"""Set, not measured: where it ends tells nothing about the run."""

Records = list[dict[str, Any]]


def by_phase(metrics: Iterable[dict[str, Any]]) -> dict[str, Records]:
    """Split records by the phase that wrote them, in order of appearance."""
    phases: dict[str, Records] = defaultdict(list)
    for record in metrics:
        phases[str(record.get("phase", "fit"))].append(record)
    return dict(phases)


def curves(records: Records, first: Sequence[str] = ()) -> dict[str, list[Line]]:
    """Series of one phase, over epochs; null stands for a value that was not finite.

    Args:
        records: Lines of ``metrics.jsonl``.
        first: Metrics that come before others, after the loss.

    Returns:
        Metric without its split -> its lines, the loss first, what concerns speed last.
    """
    series: dict[str, dict[str, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    steps_per_epoch = max((step / (epoch + 1) for step, epoch in map(_place, records)), default=0.0)
    for record in records:
        step, epoch = _place(record)
        x = step / steps_per_epoch if steps_per_epoch else epoch + 1
        for key, value in record.items():
            if key not in PLACE and (value is None or isinstance(value, int | float)):
                metric, line = _metric_and_line(key)
                series[metric][line][x] = math.nan if value is None else value
    return {
        metric: [_line(name, points) for name, points in sorted(series[metric].items(), key=_split_order)]
        for metric in sorted(series, key=lambda metric: _metric_order(metric, (LOSS, *first)))
    }


def curve_charts(records: Records, headline: str, described: Metrics) -> list[Markup]:
    """Charts of one phase, the headline metric's right after that of the loss; without those of unlabelled samples.

    Args:
        records: Lines of ``metrics.jsonl``.
        headline: Name of the headline metric, without its split.
        described: What the task says of its metrics; charts are in this order.
    """
    metrics = together(curves(records, [headline, *described]), described)
    return _charts({name: lines for name, lines in metrics.items() if not name.startswith(PREFIX)}, described)


def pool_charts(records: Records, described: Metrics) -> list[Markup]:
    """Charts of what one phase logged of its unlabelled samples, but for what an artefact of the run draws together."""
    drawn = {f"{PREFIX}{name}" for name in (*SHARES, ADDED)}
    metrics = {name: lines for name, lines in curves(records).items() if name.startswith(PREFIX)}
    return _charts({name: lines for name, lines in metrics.items() if name not in drawn}, described)


def _charts(metrics: dict[str, list[Line]], described: Metrics) -> list[Markup]:
    end = max((line.x[-1] for lines in metrics.values() for line in lines), default=1.0)
    return [
        line_chart(
            LineChart(
                metric_title(metric, described),
                lines,
                "epoch",
                metric_format(metric, described),
                x_range=(0.0, end),
                last_values=metric != SCHEDULE,
                bounded=describe(metric, described).is_share,
            )
        )
        for metric, lines in metrics.items()
        if any(len(line.x) > 1 for line in lines)  # a single point is no curve; its value stands among the figures
    ]


def together(metrics: dict[str, list[Line]], described: Metrics) -> dict[str, list[Line]]:
    """Put beside the validation of a metric what training logs of the same quantity under another name.

    What training logs under the name of the metric itself is then another quantity, such as a sum of losses, and gets a
    chart of its own.
    """
    named = {name: metric.in_training for name, metric in described.items() if metric.in_training in metrics}
    found: dict[str, list[Line]] = {}
    for name, lines in metrics.items():
        if name in named.values():
            continue
        if name not in named:
            found[name] = lines
            continue
        minimised = [line for line in lines if line.name == SPLITS[0]]
        found[name] = [*metrics[named[name]], *(line for line in lines if line not in minimised)]
        if minimised:
            found[f"{name}{OBJECTIVE}"] = minimised
    return found


def _place(record: dict[str, Any]) -> tuple[float, int]:
    return float(record.get("step") or 0), int(record.get("epoch") or 0)


def _metric_and_line(key: str) -> tuple[str, str]:
    """``val/loss`` is the line ``val`` of ``loss``; ``lr/head`` is the line ``head`` of ``lr``."""
    first, _, rest = key.partition("/")
    if first in SPLITS and rest:
        return rest, first
    return first, rest or metric_title(first, {}).lower()


def _split_order(item: tuple[str, Any]) -> tuple[int, str]:
    name = item[0]
    return (SPLITS.index(name) if name in SPLITS else len(SPLITS)), name


def _metric_order(metric: str, first: Sequence[str]) -> tuple[int, str]:
    if metric in first:
        return first.index(metric) - len(first), metric
    return (LAST.index(metric) + 1 if metric in LAST else 0), metric


def _line(name: str, points: dict[float, float]) -> Line:
    xs = sorted(points)
    return Line(name, xs, [points[x] for x in xs], SPLITS.index(name) if name in SPLITS else None)
