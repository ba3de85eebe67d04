"""What evaluation keeps of every bag, and the metrics made from it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.mil.bags import BagOutput
from vision_train.artefacts import Metric
from vision_train.statistics import Columns, registered_statistic, statistic
from vision_train.tasks.auroc import macro_auroc
from vision_train.tasks.class_balance import BALANCED_ACCURACY, F1, balanced_accuracy, macro_f1
from vision_train.tasks.class_balance import RECOMPUTED as BY_CLASS
from vision_train.tasks.scores import Scores

METRICS = (
    Metric("loss", "bag loss", better="less", lowest=0.0, in_training="bag_loss"),
    Metric("auroc", "AUROC", shown="always", is_share=True),
    F1,
    Metric("f1_and_auroc", "F1 + AUROC", shown="never"),
    Metric("accuracy", "accuracy", "percent", is_proportion=True),
    BALANCED_ACCURACY,
)
"""Metrics of predictions; ``f1_and_auroc`` is the sum by which ACMIL's authors choose the epoch, and means no more."""
ATTENTION_METRICS = (
    Metric("attention_entropy", "entropy of attention, of ln N", is_share=True),
    Metric("attention_top10", "attention on the ten hottest", "percent", better="less"),
)
"""Metrics of attention: its entropy over ln N, and the sum of the ten largest."""
RECOMPUTED = {**BY_CLASS, "auroc": "macro_auroc", "f1_and_auroc": "bags/f1_and_auroc"}
"""Metrics that are no mean over bags -> the statistic that recomputes them."""
TOP = 10
FIELDS = ("label", "loss", "instances", *(metric.name for metric in ATTENTION_METRICS))


def fields(classes: int) -> tuple[str, ...]:
    """Columns of the numbers of each bag: ``FIELDS``, NaN where a network has no attention, and C probabilities."""
    return (*FIELDS, *(f"probability_{number}" for number in range(classes)))


def probabilities(scores: Scores) -> Tensor:
    """N x C."""
    return scores.rows[:, len(FIELDS) :]


def predicted(scores: Scores) -> Tensor:
    """Likeliest class of each bag, N, int64."""
    return probabilities(scores).argmax(dim=1)


def score_batch(output: BagOutput, labels: Tensor, padding_mask: Tensor) -> Tensor:
    """Numbers of B bags: B x (5 + C), float64.

    Args:
        output: Output of the network.
        labels: B, int64.
        padding_mask: B x N, True on padding.
    """
    logits = output.bag_logits.detach().double()
    loss = functional.cross_entropy(logits, labels, reduction="none")
    instances = (~padding_mask).sum(dim=1)
    entropy, top = attention_figures(output.bag_attention, instances)
    columns = torch.stack([labels.double(), loss, instances.double(), entropy, top], dim=1)
    return torch.cat([columns, logits.softmax(dim=1)], dim=1).cpu()


def attention_figures(attention: Tensor | None, instances: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy of the attention over ln N, and its mass on the ten most attended instances; NaN without attention.

    Args:
        attention: B x N, rows sum to 1, 0 on padding; None where nothing attends.
        instances: B, how many are no padding. A single instance has an entropy of 0.

    Returns:
        B each, float64, in [0, 1].
    """
    if attention is None:
        nothing = torch.full(instances.shape, math.nan, dtype=torch.float64, device=instances.device)
        return nothing, nothing
    attention = attention.detach().double()
    entropy = torch.special.entr(attention).sum(dim=1) / instances.clamp_min(2).double().log()
    return entropy, attention.topk(min(TOP, attention.shape[1]), dim=1).values.sum(dim=1)


def metrics(scores: Scores) -> dict[str, float]:
    """Metrics without a split's prefix; those of attention only where there is one.

    AUROC is one-vs-rest, F1 and recall (balanced accuracy) per class, all averaged over the classes that occur.
    """
    labels, likely, shares = scores.column("label").long(), predicted(scores), probabilities(scores)
    auroc, f1 = macro_auroc(shares, labels), macro_f1(likely, labels)
    accuracy = (likely == labels).double().mean().item()
    balanced = balanced_accuracy(likely, labels)
    numbers = (scores.column("loss").mean().item(), auroc, f1, auroc + f1, accuracy, balanced)
    values = dict(zip((metric.name for metric in METRICS), numbers, strict=True))
    figures = {metric.name: scores.column(metric.name).mean().item() for metric in ATTENTION_METRICS}
    return values | {name: value for name, value in figures.items() if not math.isnan(value)}


@statistic(RECOMPUTED["f1_and_auroc"])
def f1_and_auroc(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Sum of macro F1 and macro AUROC in each of R resamples.

    Args:
        columns: ``label``, ``predicted`` and ``probabilities``.
        counts: R x N.
    """
    f1, auroc = (registered_statistic(RECOMPUTED[name])(columns, counts) for name in ("f1", "auroc"))
    return f1 + auroc
