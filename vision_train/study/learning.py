"""How the arms learnt: validation by epoch, the mean over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from vision_train.artefacts import Metric
from vision_train.metrics_log import part_of, read_metrics
from vision_train.report.charts import Line, LineChart
from vision_train.report.formats import describe, metric_format, metric_title
from vision_train.report.learning_curves import by_phase, curves
from vision_train.study.results import CellResult
from vision_train.study.study import Study

LOSS, VALIDATION = "loss", "val"


def learning_charts(study: Study, cell: CellResult) -> list[LineChart]:
    """Charts of the headline metric and of the loss of validation, with a line for each arm.

    Training losses are left out: arms may minimise different ones.

    Args:
        study: The folder.
        cell: Its finished runs; of a run in phases, the last phase is drawn.
    """
    described = {metric.name: metric for metric in study.resolved[0][0].metrics}
    headline = study.plan.select.metric.rpartition("/")[2]
    charts = []
    for name in dict.fromkeys((headline, LOSS)):
        lines = [
            line
            for colour, arm in enumerate(cell.arms)
            if (line := _line(arm.name, [run.folder for run in arm.runs.values()], name, colour))
        ]
        if any(len(line.x) > 1 for line in lines):
            charts.append(_chart(f"{VALIDATION}/{name}", lines, described, study.plan.draws_noun))
    return charts


def _chart(name: str, lines: Sequence[Line], described: Mapping[str, Metric], several: str) -> LineChart:
    return LineChart(
        metric_title(name, described),
        lines,
        "epoch",
        metric_format(name, described),
        f"Means over the {several}; bands reach from the lowest to the highest.",
        x_range=(0.0, max(line.x[-1] for line in lines)),
        bounded=describe(name, described).is_share,
    )


def _line(arm: str, folders: Sequence[Path], name: str, colour: int) -> Line | None:
    """The mean of the runs at the epochs that all of them validated; None where there are none."""
    found = [values for folder in folders if (values := _validated(folder).get(name))]
    epochs = sorted(set.intersection(*(set(values) for values in found))) if found else []
    if not epochs:
        return None
    table = np.array([[values[epoch] for epoch in epochs] for values in found])  # S E
    spread = (table.min(axis=0).tolist(), table.max(axis=0).tolist()) if len(found) > 1 else None
    return Line(arm, epochs, table.mean(axis=0).tolist(), colour, spread)


def forget_curves() -> None:
    """Forget what was read of runs: they may have been trained anew since."""
    _validated.cache_clear()


# Of finished runs alone, whose files change no more; the page is written anew after each run.
@cache
def _validated(folder: Path) -> dict[str, dict[float, float]]:
    """Metric -> epoch -> value on the validation split, of the last phase of a run."""
    file = folder / "metrics.jsonl"
    records = [] if not file.is_file() else read_metrics(file)
    own = [record for record in records if not part_of(str(record.get("phase", "")))]
    phases = list(by_phase(own).values())
    return {
        name: dict(zip(line.x, line.y, strict=True))
        for name, lines in (curves(phases[-1]) if phases else {}).items()
        for line in lines
        if line.name == VALIDATION
    }
