"""Metrics of the tasks that do not describe theirs yet; goes once every run stores ``metrics.json``."""

from __future__ import annotations

from dataclasses import replace

from vision_train.artefacts import Metric

_METRICS = (
    Metric("accuracy", "accuracy", "percent", is_proportion=True),
    Metric("accuracy_top5", "top-5 accuracy", "percent", is_proportion=True),
    Metric("acc1", "positions right", "percent"),
    Metric("acc1_weighted", "positions right, weighted", "percent"),
    Metric("hard_ce", "cross-entropy of positions", better="less"),
    Metric("grid_distance", "mean grid distance, in patches", better="less"),
    Metric("probe_accuracy", "accuracy of the linear probe", "percent", shown="always"),
    Metric("calibration_error", "calibration error", "percent", better="less"),
    Metric("auroc", "AUROC"),
    Metric("f1", "F1"),
    Metric("f1_and_auroc", "F1 + AUROC"),
    Metric("attention_entropy", "entropy of attention, of ln N"),
    Metric("attention_top10", "attention on the ten hottest", "percent"),
)
TASK_METRICS = {metric.name: metric for metric in _METRICS}


def task_metrics(classes: object) -> dict[str, Metric]:
    """The same for a run: of up to five classes, the right one is always among the first five."""
    if not (isinstance(classes, list) and len(classes) <= 5):
        return TASK_METRICS
    return {**TASK_METRICS, "accuracy_top5": replace(TASK_METRICS["accuracy_top5"], shown="never")}
