"""What evaluation keeps of every image, and the metrics made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import binary_calibration_error

from vision_train.artefacts import Artefact, Curve, Items, Metric, Recomputed
from vision_train.tasks.class_balance import BALANCED_ACCURACY, F1, RECOMPUTED, balanced_accuracy, macro_f1
from vision_train.tasks.class_results import confusion_counts, confusion_matrix, per_class_table, summary_table
from vision_train.tasks.scores import Scores

LOSS = Metric("loss", "loss", better="less")
ACCURACY = Metric("accuracy", "accuracy", "percent", is_proportion=True)
TOP5 = Metric("accuracy_top5", "top-5 accuracy", "percent", is_proportion=True)
CALIBRATION = Metric("calibration_error", "calibration error", "percent", better="less")
METRICS = (LOSS, ACCURACY, TOP5, BALANCED_ACCURACY, F1, CALIBRATION)
FIELDS = ("label", "predicted", "in_top5", "confidence", "loss")
CALIBRATION_BINS = 15
"""As in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017."""


def score_batch(logits: Tensor, labels: Tensor) -> Tensor:
    """Numbers of B images, B x 5, columns as in ``FIELDS``.

    Args:
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
    return torch.stack([column.double() for column in columns], dim=1)


def metrics(scores: Scores) -> dict[str, float]:
    """Loss, accuracies, macro F1 and the expected calibration error, without a split's prefix."""
    labels, predicted = scores.column("label").long(), scores.column("predicted").long()
    correct = predicted == labels
    return {
        LOSS.name: scores.column("loss").mean().item(),
        ACCURACY.name: correct.double().mean().item(),
        TOP5.name: scores.column("in_top5").mean().item(),
        BALANCED_ACCURACY.name: balanced_accuracy(predicted, labels),
        F1.name: macro_f1(predicted, labels),
        CALIBRATION.name: _calibration_error(scores.column("confidence"), correct),
    }


def _calibration_error(confidence: Tensor, correct: Tensor) -> float:
    # The top-label error is the binary one of "the prediction is right" (Guo et al., equation 3).
    return float(binary_calibration_error(confidence, correct.long(), n_bins=CALIBRATION_BINS, norm="l1"))


def artefacts(
    scores: Scores, classes: Sequence[str], split: str, measured: Mapping[str, float], warnings: Sequence[str] = ()
) -> list[Artefact]:
    """Size and metrics, per-class table, confusion matrix, reliability and every image of a split."""
    labels, predicted = scores.column("label").long(), scores.column("predicted").long()
    names = list(classes)
    confusion = confusion_counts(predicted, labels, len(names))
    return [
        summary_table(split, "images", len(scores.ids), measured, warnings),
        per_class_table(confusion, names, split, "images"),
        confusion_matrix(confusion, names, split),
        _reliability(scores.column("confidence"), (predicted == labels).double(), split),
        _items(scores, split),
    ]


def _items(scores: Scores, split: str) -> Items:
    """Every image's results; those that are not finite, as of a network that diverged, are left out."""
    means = {
        ACCURACY.name: (scores.column("predicted") == scores.column("label")).double(),
        TOP5.name: scores.column("in_top5"),
        LOSS.name: scores.column("loss"),
    }
    values = {name: column.tolist() for name, column in means.items() if column.isfinite().all()}
    columns = {name: scores.column(name).long().tolist() for name in ("label", "predicted")}
    recomputed = {name: Recomputed(statistic) for name, statistic in RECOMPUTED.items()}
    confidence = scores.column("confidence")
    if confidence.isfinite().all():
        columns["confidence"] = confidence.tolist()
        recomputed[CALIBRATION.name] = Recomputed("calibration_error", {"correct": ACCURACY.name})
    return Items(f"{split}_items", scores.ids, values, scores.group_of_each, columns, recomputed)


def _reliability(confidence: Tensor, correct: Tensor, split: str) -> Curve:
    known = confidence.isfinite()  # the confidence of a network that diverged is NaN
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
