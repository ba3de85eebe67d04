"""Classes of unequal frequency: weights of the loss, and metrics in which every class counts alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score

from vision_train.artefacts import Metric

ClassWeights = Literal["none", "balanced"]
"""What a recipe may say under ``method.class_weights``."""
F1 = Metric("f1", "F1", is_share=True)
BALANCED_ACCURACY = Metric("balanced_accuracy", "balanced accuracy", "percent")
RECOMPUTED = {"f1": "macro_f1", "balanced_accuracy": "balanced_accuracy"}
"""Metrics that are no mean over samples -> the statistic that recomputes them from ``label`` and ``predicted``."""


def class_weights(asked: ClassWeights, counts: Sequence[int]) -> Tensor | None:
    """Weights of the classes in the loss, K, float32; None where none are asked for.

    ``balanced`` weighs a class by N / (K n_k), so that all classes weigh alike in an epoch and a sample weighs 1 on
    average. A loss is averaged over samples, not over weights: so batches of one class keep their weight, and batches
    accumulated weigh as the same samples in one.

    Args:
        asked: The recipe's ``method.class_weights``.
        counts: Training samples of each class; a class without any gets a weight of 0.
    """
    if asked == "none":
        return None
    found = torch.tensor(counts, dtype=torch.float64)
    present = (found > 0).sum()
    return torch.where(found > 0, found.sum() / (present * found), 0.0).float()


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Recall of each class, averaged over the classes that occur among the labels."""
    correct = (predicted == labels).double()
    return torch.stack([correct[labels == each].mean() for each in labels.unique()]).mean().item()


def macro_f1(predicted: Tensor, labels: Tensor) -> float:
    """F1 of each class, averaged over the classes that occur among labels or predictions."""
    classes = max(int(torch.cat([predicted, labels]).max()) + 1, 2)
    return float(multiclass_f1_score(predicted, labels, num_classes=classes, average="macro"))
