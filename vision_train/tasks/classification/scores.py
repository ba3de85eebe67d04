"""What evaluation keeps of every image, and the metrics made from it.

A few numbers an image are kept instead of its logits, so that a thousand classes cost no more memory than two, and they
are gathered by sample id, so that an image that two processes saw, or one saw twice, counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import binary_calibration_error, multiclass_confusion_matrix

from vision_train.artefacts import Artefact, Curve, Items, Matrix, Recomputed, Table
from vision_train.processes import gather_by_id

METRICS = ("loss", "accuracy", "accuracy_top5", "calibration_error")
FIELDS = ("label", "predicted", "in_top5", "confidence", "loss")
CALIBRATION_BINS = 15
"""As in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017."""


@dataclass
class Scores:
    """Per-image results of one pass over a split, in the order of arrival.

    Attributes:
        ids: N sample ids.
        values: N x 5 float64, columns as in ``FIELDS``.
    """

    ids: list[str] = field(default_factory=list)
    values: Tensor = field(default_factory=lambda: torch.empty(0, len(FIELDS), dtype=torch.float64))

    def column(self, name: str) -> Tensor:
        """One column as float64, length N."""
        return self.values[:, FIELDS.index(name)].contiguous()


def score_batch(ids: Sequence[str], logits: Tensor, labels: Tensor) -> Scores:
    """Score a batch.

    Args:
        ids: B sample ids.
        logits: B K.
        labels: B, int64.
    """
    logits = logits.detach().float()
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    top5 = logits.topk(min(5, logits.shape[1]), dim=1).indices
    columns = (
        labels,
        predicted,
        (top5 == labels[:, None]).any(dim=1),
        confidence,
        functional.cross_entropy(logits, labels, reduction="none"),
    )
    return Scores(list(ids), torch.stack([column.double() for column in columns], dim=1).cpu())


def gather(parts: Sequence[Scores]) -> Scores:
    """Join the parts of all processes and keep each sample id once, in order of id, the same on every process."""
    ids, values = gather_by_id([(part.ids, part.values) for part in parts])
    return Scores() if values is None else Scores(ids, values)


def metrics(scores: Scores) -> dict[str, float]:
    """Loss, top-1 and top-5 accuracy and the expected calibration error, without a split's prefix."""
    correct = scores.column("predicted") == scores.column("label")
    values = (
        scores.column("loss").mean().item(),
        correct.double().mean().item(),
        scores.column("in_top5").mean().item(),
        _calibration_error(scores.column("confidence"), correct),
    )
    return dict(zip(METRICS, values, strict=True))


def _calibration_error(confidence: Tensor, correct: Tensor) -> float:
    # The top-label error is the binary one of "the prediction is right" (Guo et al., equation 3).
    return float(binary_calibration_error(confidence, correct.long(), n_bins=CALIBRATION_BINS, norm="l1"))


def artefacts(scores: Scores, classes: Sequence[str], split: str) -> list[Artefact]:
    """What a split has to show: size and metrics, per-class table, confusion matrix, reliability, every image."""
    labels, predicted = scores.column("label").long(), scores.column("predicted").long()
    confusion = multiclass_confusion_matrix(predicted, labels, num_classes=len(classes))
    names = list(classes)
    rows: list[list[str | float]] = [[name, value] for name, value in metrics(scores).items()]
    return [
        Table(f"{split}_summary", f"Result on {split}", ["metric", "value"], [["images", len(scores.ids)], *rows]),
        per_class_table(confusion, names, split, "images"),
        confusion_matrix(confusion, names, split),
        _reliability(scores.column("confidence"), (predicted == labels).double(), split),
        _items(scores, split),
    ]


def _items(scores: Scores, split: str) -> Items:
    """Every image's results; those that are not finite, as of a network that diverged, are left out."""
    means = {
        "accuracy": (scores.column("predicted") == scores.column("label")).double(),
        "accuracy_top5": scores.column("in_top5"),
        "loss": scores.column("loss"),
    }
    values = {name: column.tolist() for name, column in means.items() if column.isfinite().all()}
    confidence = scores.column("confidence")
    if not confidence.isfinite().all():
        return Items(f"{split}_items", scores.ids, values)
    calibration = Recomputed("calibration_error", {"correct": "accuracy"})
    columns = {"confidence": confidence.tolist()}
    return Items(f"{split}_items", scores.ids, values, columns=columns, recomputed={"calibration_error": calibration})


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
    return Table(f"{split}_per_class", f"Per class on {split}", columns, rows, note="Recall is the class's accuracy.")


def _reliability(confidence: Tensor, correct: Tensor, split: str) -> Curve:
    known = confidence.isfinite()  # a network that diverged is sure of nothing
    confidence, correct = confidence[known], correct[known]
    bins = (confidence * CALIBRATION_BINS).long().clamp_max(CALIBRATION_BINS - 1)
    count = torch.bincount(bins, minlength=CALIBRATION_BINS)
    filled = count > 0
    mean_confidence = torch.bincount(bins, confidence, CALIBRATION_BINS)[filled] / count[filled]
    accuracy = torch.bincount(bins, correct, CALIBRATION_BINS)[filled] / count[filled]
    return Curve(
        f"{split}_reliability",
        f"Reliability on {split}",
        x_label="mean confidence",
        y_label="accuracy",
        x=mean_confidence.tolist(),
        lines={"observed": accuracy.tolist(), "perfectly calibrated": mean_confidence.tolist()},
        note=f"Images in {CALIBRATION_BINS} bins of equal width by confidence; empty bins are left out.",
    )
