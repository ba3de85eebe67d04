"""What evaluation keeps of every image, and the metrics made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.grounding.dense import IGNORED, CellTargets, DenseOutput, cell_ious
from vision_train.artefacts import Artefact, Items, Metric, Recomputed, Table
from vision_train.tasks.scores import Scores

CELL_ACCURACY = Metric("cell_accuracy", "covered cells named right", "percent", shown="always")
CELL_IOU = Metric("cell_iou", "mean IoU of the boxes of covered cells", shown="always", is_share=True)
EMPTY_ACCURACY = Metric("empty_accuracy", "empty cells seen as empty", "percent")
METRICS = (CELL_ACCURACY, CELL_IOU, EMPTY_ACCURACY)
COUNTED = {
    CELL_ACCURACY.name: ("named", "covered"),
    CELL_IOU.name: ("iou", "covered"),
    EMPTY_ACCURACY.name: ("left_empty", "empty"),
}
"""Metric -> the columns whose sums it is the ratio of."""
FIELDS = ("covered", "named", "iou", "empty", "left_empty")
"""Numbers of each image: cells that something covers, how many of them are named right, the sum of their IoU; cells
that nothing covers, and how many of them are seen so."""


def score_batch(output: DenseOutput, targets: CellTargets) -> Tensor:
    """Numbers of B images, columns as in :data:`FIELDS`."""
    right = output.logits.argmax(dim=-1) == targets.classes
    empty = (targets.classes != IGNORED) & ~targets.covered
    columns = [
        targets.covered,
        right & targets.covered,
        cell_ious(output.edges, targets),
        empty,
        right & empty,
    ]
    return torch.stack([each.double().sum(dim=1) for each in columns], dim=1)


def metrics(scores: Scores) -> dict[str, float]:
    """The metrics of a split, without its prefix; NaN where there is nothing to count."""
    sums = {name: scores.column(name).sum().item() for name in FIELDS}
    return {
        name: sums[above] / sums[below] if sums[below] else float("nan") for name, (above, below) in COUNTED.items()
    }


def artefacts(scores: Scores, split: str, measured: Mapping[str, float]) -> list[Artefact]:
    """What was counted on a split, and every image's own numbers."""
    rows: list[list[Any]] = [["images", len(scores.ids)]]
    rows += [[f"{name} cells", int(scores.column(name).sum())] for name in ("covered", "empty")]
    rows += [[metric.title, measured[metric.name]] for metric in METRICS]
    note = "A cell is covered by the smallest box that its middle lies in."
    columns = {name: scores.column(name).tolist() for name in FIELDS}
    recomputed = {
        name: Recomputed("ratio_of_sums", {"numerator": above, "denominator": below})
        for name, (above, below) in COUNTED.items()
    }
    return [
        Table(f"{split}_cells", f"Cells of {split}", ["", "value"], rows, note),
        Items(f"{split}_items", scores.ids, {}, scores.group_of_each, columns, recomputed),
    ]
