"""What evaluation keeps of every image, and the metrics made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import binary_calibration_error

from vision_train.artefacts import Artefact, Items, Metric, Recomputed
from vision_train.tasks.auroc import macro_auroc
from vision_train.tasks.class_balance import BALANCED_ACCURACY, F1, RECOMPUTED, balanced_accuracy, macro_f1
from vision_train.tasks.class_curves import PROBABILITY, curve_artefacts, stacked
from vision_train.tasks.class_results import confusion_counts, confusion_matrix, per_class_table, summary_table
from vision_train.tasks.reliability import BINS, reliability
from vision_train.tasks.scores import Scores
from vision_train.wording import percent

LABELLED_LOSS = "labelled_loss"
"""What training logs of labelled images alone where it minimises a sum with the loss of a pool."""
LOSS = Metric("loss", "loss", better="less", lowest=0.0, in_training=LABELLED_LOSS)
ACCURACY = Metric("accuracy", "accuracy", "percent", is_proportion=True)
TOP5 = Metric("accuracy_top5", "top-5 accuracy", "percent", is_proportion=True)
CALIBRATION = Metric("calibration_error", "calibration error", "percent", better="less")
METRICS = (LOSS, ACCURACY, TOP5, BALANCED_ACCURACY, F1, CALIBRATION)
FIELDS = ("label", "predicted", "in_top5", "confidence", "loss")
MISTAKES = "Wrong predictions with the highest loss: the true class, the predicted class, the confidence."
AUROC = Metric("auroc", "AUROC", is_share=True)
"""Measured of two classes alone: of more, each has one of its own."""


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


def said_of(row: Tensor, classes: Sequence[str]) -> str:
    """What a picture of an image says of it; its numbers are columns as in ``FIELDS``."""
    values = dict(zip(FIELDS, row.tolist(), strict=True))
    label, predicted = classes[int(values["label"])], classes[int(values["predicted"])]
    taken = f", taken for {predicted}" if predicted != label else ""
    return f"{label}{taken} ({percent(values['confidence'])})"


def metrics(scores: Scores) -> dict[str, float]:
    """Loss, accuracies, macro F1, calibration error and, of two classes, AUROC; without a split's prefix."""
    labels, predicted = scores.column("label").long(), scores.column("predicted").long()
    correct = predicted == labels
    kept = probabilities(scores)
    ranked = {} if kept is None or kept.shape[1] != 2 else {AUROC.name: macro_auroc(kept, labels)}
    return {
        LOSS.name: scores.column("loss").mean().item(),
        ACCURACY.name: correct.double().mean().item(),
        TOP5.name: scores.column("in_top5").mean().item(),
        BALANCED_ACCURACY.name: balanced_accuracy(predicted, labels),
        F1.name: macro_f1(predicted, labels),
        CALIBRATION.name: _calibration_error(scores.column("confidence"), correct),
        **ranked,
    }


def _calibration_error(confidence: Tensor, correct: Tensor) -> float:
    # The top-label error is the binary one of "the prediction is right" (Guo et al., equation 3).
    return float(binary_calibration_error(confidence, correct.long(), n_bins=BINS, norm="l1"))


def artefacts(
    scores: Scores,
    classes: Sequence[str],
    split: str,
    measured: Mapping[str, float],
    warnings: Sequence[str] = (),
    calibration: Mapping[str, Any] = MappingProxyType({}),
) -> list[Artefact]:
    """Size and metrics, per-class table, confusion matrix, reliability, ROC and every image of a split.

    Args:
        scores: Numbers of all images.
        classes: K class names, in the order of the labels.
        split: Name of the split.
        measured: Its metrics.
        warnings: Sentences for the reader of the result.
        calibration: What validation decided of these weights.
    """
    labels, predicted = scores.column("label").long(), scores.column("predicted").long()
    names = list(classes)
    confusion = confusion_counts(predicted, labels, len(names))
    return [
        summary_table(split, "images", len(scores.ids), measured, warnings),
        per_class_table(confusion, names, split, "images"),
        confusion_matrix(confusion, names, split),
        reliability(scores.column("confidence"), (predicted == labels).double(), split, "images"),
        *_curves(scores, names, split, calibration),
        _items(scores, split),
    ]


def probabilities(scores: Scores) -> Tensor | None:
    """N x K; None where there are too many classes to keep them."""
    kept = [name for name in scores.fields if name.startswith(PROBABILITY)]
    return stacked([scores.column(name) for name in kept]) if kept else None


def _curves(scores: Scores, names: list[str], split: str, calibration: Mapping[str, Any]) -> list[Artefact]:
    kept, labels = probabilities(scores), scores.column("label").long()
    return [] if kept is None else curve_artefacts(kept, labels, scores.group_of_each, names, split, calibration)


def _items(scores: Scores, split: str) -> Items:
    """Every image's results; those that are not finite, as of a network that diverged, are left out."""
    means = {
        ACCURACY.name: (scores.column("predicted") == scores.column("label")).double(),
        TOP5.name: scores.column("in_top5"),
        LOSS.name: scores.column("loss"),
    }
    values = {name: column.tolist() for name, column in means.items() if column.isfinite().all()}
    columns: dict[str, list[Any]] = {name: scores.column(name).long().tolist() for name in ("label", "predicted")}
    recomputed = {name: Recomputed(statistic) for name, statistic in RECOMPUTED.items()}
    confidence = scores.column("confidence")
    if confidence.isfinite().all():
        columns["confidence"] = confidence.tolist()
        recomputed[CALIBRATION.name] = Recomputed("calibration_error", {"correct": ACCURACY.name})
    kept = probabilities(scores)
    if kept is not None and kept.shape[1] == 2 and kept.isfinite().all():
        columns["probabilities"] = kept.tolist()
        recomputed[AUROC.name] = Recomputed("macro_auroc")
    return Items(f"{split}_items", scores.ids, values, scores.group_of_each, columns, recomputed)
