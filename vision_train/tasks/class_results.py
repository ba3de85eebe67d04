"""Tables and matrices that every classifier shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from vision_train.artefacts import Matrix, Table


def confusion_counts(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts, K x K: true class by predicted class."""
    return multiclass_confusion_matrix(predicted, labels, num_classes=classes)


def confusion_matrix(confusion: Tensor, names: list[str], split: str) -> Matrix:
    """Counts (K x K, true class by predicted class) for the report."""
    return Matrix(
        f"{split}_confusion",
        f"Confusion on {split}",
        row_label="true class",
        column_label="predicted class",
        rows=names,
        columns=names,
        values=confusion.tolist(),
    )


def per_class_table(confusion: Tensor, names: list[str], split: str, noun: str) -> Table:
    """Recall, precision and F1 of each class, from counts (K x K); ``noun`` says what is counted."""
    hits, true, claimed = confusion.diag().double(), confusion.sum(1).double(), confusion.sum(0).double()
    recall, precision = hits / true.clamp_min(1), hits / claimed.clamp_min(1)
    f1 = 2 * hits / (true + claimed).clamp_min(1)
    columns = ["class", noun, "recall", "precision", "F1"]
    rows = [[name, int(true[k]), recall[k].item(), precision[k].item(), f1[k].item()] for k, name in enumerate(names)]
    note = "Recall is the class's accuracy."
    return Table(f"{split}_per_class", f"Per class on {split}", columns, rows, note, columns[2:])


def summary_table(
    split: str, noun: str, count: int, measured: Mapping[str, float], warnings: Sequence[str] = ()
) -> Table:
    """Size of a split and its metrics, with sentences for the reader."""
    rows: list[list[str | float]] = [[name, value] for name, value in measured.items()]
    said = " ".join(f"Warning: {text}." for text in warnings)
    return Table(f"{split}_summary", f"Result on {split}", ["metric", "value"], [[noun, count], *rows], said)
