"""Tables of a test pass over bags, and every bag's own numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vision_train.artefacts import Artefact, Items, Recomputed
from vision_train.tasks.bags.scores import ATTENTION_METRICS, RECOMPUTED, predicted, probabilities
from vision_train.tasks.class_curves import curve_artefacts
from vision_train.tasks.class_results import confusion_counts, confusion_matrix, per_class_table, summary_table
from vision_train.tasks.reliability import reliability
from vision_train.tasks.scores import Scores


def result_artefacts(
    scores: Scores,
    classes: Sequence[str],
    split: str,
    measured: Mapping[str, float],
    warnings: Sequence[str],
    calibration: Mapping[str, Any],
) -> list[Artefact]:
    """Size and metrics, per-class table, confusion matrix, reliability, ROC, and every bag.

    Args:
        scores: Numbers of all bags.
        classes: C class names, in the order of the labels.
        split: Name of the split.
        measured: Its metrics.
        warnings: Sentences for the reader of the result.
        calibration: What validation decided of these weights.
    """
    labels, likely, names = scores.column("label").long(), predicted(scores), list(classes)
    shares = probabilities(scores)
    confusion = confusion_counts(likely, labels, len(names))
    return [
        summary_table(split, "bags", len(scores.ids), measured, warnings),
        per_class_table(confusion, names, split, "bags"),
        confusion_matrix(confusion, names, split),
        reliability(shares.max(dim=1).values, (likely == labels).double(), split, "bags"),
        *curve_artefacts(shares, labels, scores.group_of_each, names, split, calibration),
        _items(scores, split, measured),
    ]


def _items(scores: Scores, split: str, measured: Mapping[str, float]) -> Items:
    """Every bag's results; metrics that are not finite are left out. Bags of one case are resampled together."""
    labels, likely = scores.column("label").long(), predicted(scores)
    means = {
        "accuracy": (likely == labels).double(),
        "loss": scores.column("loss"),
        **{metric.name: scores.column(metric.name) for metric in ATTENTION_METRICS},
    }
    columns = {
        "label": labels.tolist(),
        "predicted": likely.tolist(),
        "probabilities": probabilities(scores).tolist(),
    }
    return Items(
        f"{split}_items",
        scores.ids,
        {name: values.tolist() for name, values in means.items() if values.isfinite().all()},
        scores.group_of_each,
        columns,
        {name: Recomputed(named) for name, named in RECOMPUTED.items() if math.isfinite(measured[name])},
    )
