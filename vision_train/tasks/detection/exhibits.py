"""What a report and a study show of a pass of detection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision_train.artefacts import Artefact, Curve, Items, Recomputed, Table
from vision_train.tasks.detection.hits import count_hits
from vision_train.tasks.detection.precision import AP, AP50, precisions
from vision_train.tasks.detection.results import Results

RECALLS = np.linspace(0, 1, 101)


def artefacts(results: Results, classes: Sequence[str], split: str) -> list[Artefact]:
    """Average precision of each class, precision at each recall, and the hits of each image."""
    precision = precisions(results, classes)[..., 0]  # 10 101 K
    return [_by_class(results, classes, precision, split), *_curves(precision, split), items(results, classes, split)]


def _by_class(results: Results, classes: Sequence[str], precision: np.ndarray, split: str) -> Table:
    counts = np.zeros(len(classes), dtype=int)
    for result in results.values():
        counts += np.bincount(result.true_labels, minlength=len(classes))
    rows = []
    for index, name in enumerate(classes):
        of_class = precision[:, :, index]
        there = bool((of_class > -1).any())
        ap, ap50 = (float(each.mean()) if there else None for each in (of_class, of_class[0]))
        rows.append([name, int(counts[index]), ap, ap50])
    return Table(
        f"{split}_classes", f"Average precision of each class of {split}", ["class", "boxes", "AP", "AP50"], rows
    )


def _curves(precision: np.ndarray, split: str) -> list[Curve]:
    """Precision at each recall, the mean of the classes."""
    there = precision[0, 0] > -1
    if not there.any():
        return []
    lines = {
        f"IoU {least:.2f}": precision[place][:, there].mean(1).tolist()
        for place, least in ((0, 0.5), (5, 0.75), (9, 0.95))
    }
    title = f"Precision at each recall, {split}"
    return [Curve(f"{split}_precision", title, "recall", "precision", RECALLS.tolist(), lines)]


def items(results: Results, classes: Sequence[str], split: str) -> Items:
    """What each image adds to average precision, so that studies can resample images."""
    columns: dict[str, list[object]] = {"score": [], "class_id": [], "hit": [], "hit50": [], "truths": []}
    for result in results.values():
        scores, labels, hit = count_hits(result)
        columns["score"].append(scores.tolist())
        columns["class_id"].append(labels.tolist())
        columns["hit"].append(hit.astype(int).tolist())
        columns["hit50"].append(hit[:, 0].astype(int).tolist())
        columns["truths"].append(np.bincount(result.true_labels, minlength=len(classes)).tolist())
    recomputed = {
        AP.name: Recomputed("average_precision"),
        AP50.name: Recomputed("average_precision", {"hit": "hit50"}),
    }
    return Items(f"{split}_items", list(results), columns=columns, recomputed=recomputed)
