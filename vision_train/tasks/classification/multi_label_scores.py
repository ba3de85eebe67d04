"""What evaluation keeps of every image that bears any number of classes, and the metrics made from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import binary_average_precision, binary_f1_score

from vision_train.artefacts import Artefact, Items, Metric, Recomputed, Table
from vision_train.tasks.auroc import class_auroc_items
from vision_train.tasks.class_curves import (
    LIKELIER_THAN_NOT,
    NOT_CHOSEN,
    PROBABILITY,
    THRESHOLDS,
    Against,
    against,
    curves_against,
    threshold_table,
)
from vision_train.tasks.class_results import summary_table
from vision_train.tasks.classification.scores import LABELLED_LOSS
from vision_train.tasks.learning import LUCK
from vision_train.tasks.scores import Scores
from vision_train.wording import first_named

LOSS = Metric("loss", "loss", better="less", lowest=0.0, in_training=LABELLED_LOSS)
MAP = Metric("map", "mean AP (mAP)", shown="always", is_share=True)
AUROC = Metric("auroc", "mean AUROC", is_share=True)
F1 = Metric("f1", "F1 at 0.5", is_share=True)
F1_CHOSEN = Metric("f1_chosen", "F1 at chosen thresholds", is_share=True)
METRICS = (LOSS, MAP, AUROC, F1, F1_CHOSEN)
TARGET = "target_"
"""Before the number of a class, the name of the column of its truth."""
UNKNOWN = -1
"""A truth that nobody knows; it counts in nothing."""
MISTAKES = (
    "Images with the highest loss whose labels at probability 0.5 are wrong: their labels, what was missed and seen."
)
CHOSEN = "The threshold of each class is where its F1 is highest on the validation data; predictions go by it."


def fields(classes: int) -> tuple[str, ...]:
    """Columns of the numbers of each image: its loss, K probabilities and K truths."""
    return ("loss", *(f"{PROBABILITY}{k}" for k in range(classes)), *(f"{TARGET}{k}" for k in range(classes)))


def image_losses(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of each image and class, B K; 0 where the truth is unknown.

    Args:
        logits: B K.
        targets: B K in [0, 1], NaN where nobody knows.
        weights: K, how many absences a presence weighs; None for one.
    """
    losses = functional.binary_cross_entropy_with_logits(
        logits, targets.nan_to_num(0.0), pos_weight=weights, reduction="none"
    )
    return losses * targets.isfinite()


def score_batch(logits: Tensor, targets: Tensor) -> Tensor:
    """Numbers of B images, columns as in :func:`fields`.

    Args:
        logits: B K.
        targets: B K: 1, 0 or NaN.
    """
    logits = logits.detach().float()
    loss = image_losses(logits, targets).sum(dim=1) / targets.isfinite().sum(dim=1).clamp_min(1)
    columns = [loss[:, None], logits.sigmoid(), targets.nan_to_num(UNKNOWN)]
    return torch.cat([column.double() for column in columns], dim=1)


def probabilities(scores: Scores) -> Tensor:
    """N x K."""
    return scores.rows[:, 1 : 1 + (len(scores.fields) - 1) // 2]


def targets(scores: Scores) -> Tensor:
    """N x K, int64: 1, 0 or -1 for unknown."""
    return scores.rows[:, 1 + (len(scores.fields) - 1) // 2 :].long()


def choose_thresholds(scores: Scores, classes: Sequence[str]) -> dict[str, Any]:
    """Choose for each class the threshold of its probability at which its F1 is highest.

    Args:
        scores: Of validation images.
        classes: K names.

    Returns:
        What :meth:`~vision_train.tasks.base.Task.calibrate` returns: names of classes to thresholds, without those that
        no image bears, or nothing else.
    """
    from sklearn.metrics import precision_recall_curve  # takes most of a second, and few verbs need it

    shares, truths = probabilities(scores), targets(scores)
    if not shares.isfinite().all():
        return {}
    chosen = {}
    for index, name in enumerate(classes):
        known = truths[:, index] != UNKNOWN
        positive, ranked = (truths[known, index] == 1).numpy(), shares[known, index].numpy()
        if positive.any():
            precision, recall, cuts = precision_recall_curve(positive, ranked)
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            chosen[name] = float(cuts[np.argmax(f1[:-1])])
    return {THRESHOLDS: chosen} if chosen else {}


def thresholds(calibration: Mapping[str, Any], classes: Sequence[str]) -> Tensor:
    """The threshold of each class, K, float64: as validation chose it, or 0.5."""
    chosen = calibration.get(THRESHOLDS) or {}
    return torch.tensor([chosen.get(name, LIKELIER_THAN_NOT) for name in classes], dtype=torch.float64)


def metrics(scores: Scores, classes: Sequence[str], calibration: Mapping[str, Any]) -> dict[str, float]:
    """Loss, mAP, mean AUROC and mean F1 at both thresholds, over the classes that an image bears."""
    shares, truths = probabilities(scores), targets(scores)
    finite = bool(shares.isfinite().all()) and len(shares) > 0
    return {
        LOSS.name: scores.column("loss").mean().item(),
        MAP.name: _mean(average_precisions(shares, truths)) if finite else math.nan,
        AUROC.name: _mean_auroc(shares, truths) if finite else math.nan,
        F1.name: _mean(_f1(shares >= LIKELIER_THAN_NOT, truths)) if finite else math.nan,
        F1_CHOSEN.name: _mean(_f1(shares >= thresholds(calibration, classes), truths)) if finite else math.nan,
    }


def average_precisions(shares: Tensor, truths: Tensor) -> Tensor:
    """Average precision of each class, K, as torchmetrics' MultilabelAveragePrecision; NaN where no image bears it.

    Args:
        shares: N K.
        truths: N K: 1, 0 or -1 for unknown.
    """
    return _of_each(shares, truths, binary_average_precision)


def _f1(claimed: Tensor, truths: Tensor) -> Tensor:
    """F1 of each class, K; NaN where no image bears it."""
    return _of_each(claimed.int(), truths, binary_f1_score)


def _of_each(numbers: Tensor, truths: Tensor, metric: Callable[[Tensor, Tensor], Any]) -> Tensor:
    found = torch.full((numbers.shape[1],), math.nan, dtype=torch.float64)
    for k in (truths == 1).any(dim=0).nonzero().flatten().tolist():
        known = truths[:, k] != UNKNOWN
        found[k] = metric(numbers[known, k], truths[known, k])
    return found


def _mean(values: Tensor) -> float:
    """The mean over the classes that an image bears."""
    return values.nanmean().item()


def _mean_auroc(shares: Tensor, truths: Tensor) -> float:
    found = [
        class_auroc_items(shares[known, k].double(), truths[known, k] == 1).mean()
        for k, known in enumerate((truths != UNKNOWN).T)
        if _has_both(truths[known, k])
    ]
    return torch.stack(found).mean().item() if found else math.nan


def _has_both(truth: Tensor) -> bool:
    return bool((truth == 1).any()) and bool((truth == 0).any())


def lucky(scores: Scores) -> float:
    """The mean AUROC that probabilities of no meaning seldom exceed by luck; NaN where it is not defined.

    As :func:`vision_train.tasks.learning.lucky_auroc`, for classes of which a sample bears any number.
    """
    truths = targets(scores)
    errors = []
    for truth in truths.T:
        positives, negatives = (int((truth == side).sum()) for side in (1, 0))
        if positives and negatives:
            errors.append(math.sqrt((positives + negatives + 1) / (12 * positives * negatives)))
    return 0.5 + LUCK * sum(errors) / len(errors) if errors else math.nan


def artefacts(
    scores: Scores,
    classes: Sequence[str],
    split: str,
    measured: Mapping[str, float],
    warnings: Sequence[str],
    calibration: Mapping[str, Any],
) -> list[Artefact]:
    """Size and metrics, per-class table, ROC and precision by recall of each class, and every image of a split.

    Args:
        scores: Numbers of all images.
        classes: K names.
        split: Name of the split.
        measured: Its metrics.
        warnings: Sentences for the reader of the result.
        calibration: What validation decided of these weights.
    """
    shares, truths = probabilities(scores), targets(scores)
    if not len(shares) or not shares.isfinite().all():
        return [summary_table(split, "images", len(scores.ids), measured, warnings), _items(scores, classes, split, {})]
    chosen = calibration.get(THRESHOLDS) or {}
    groups = scores.group_of_each
    found: list[Against] = []
    for k, name in enumerate(classes):
        known = truths[:, k] != UNKNOWN
        if _has_both(truths[known, k]):
            own = None if groups is None else [group for group, is_known in zip(groups, known, strict=True) if is_known]
            found.append(against(name, shares[known, k], truths[known, k] == 1, own, chosen.get(name)))
    note = CHOSEN if chosen else NOT_CHOSEN
    shown = [*curves_against(found, split), threshold_table(found, "each class", split, note)] if found else []
    return [
        summary_table(split, "images", len(scores.ids), measured, warnings),
        _per_class(shares, truths, classes, split, calibration),
        *shown,
        _items(scores, classes, split, calibration),
    ]


def _per_class(
    shares: Tensor, truths: Tensor, classes: Sequence[str], split: str, calibration: Mapping[str, Any]
) -> Table:
    precisions = average_precisions(shares, truths)
    cuts = thresholds(calibration, classes)
    at_half, at_chosen = _f1(shares >= LIKELIER_THAN_NOT, truths), _f1(shares >= cuts, truths)
    rows: list[list[Any]] = []
    lacking = []
    for k, name in enumerate(classes):
        positives, known = int((truths[:, k] == 1).sum()), int((truths[:, k] != UNKNOWN).sum())
        figures = [precisions[k].item(), at_half[k].item(), at_chosen[k].item()] if positives else [None] * 3
        lacking += [] if positives else [name]
        rows.append([name, positives, known, *figures, f"{cuts[k]:.3g}"])
    columns = ["class", "images that bear it", "of", "AP", "F1 at 0.5", "F1 at its threshold", "threshold"]
    note = "AP of a class whose images are ranked at random is the share of images that bear it."
    if lacking:
        note += f" No image bears {first_named(lacking)}; that counts in no mean."
    return Table(f"{split}_per_class", f"Per class on {split}", columns, rows, note, columns[3:6])


def _items(scores: Scores, classes: Sequence[str], split: str, calibration: Mapping[str, Any]) -> Items:
    """Every image's results; those that are not finite, as of a network that diverged, are left out."""
    loss, shares, truths = scores.column("loss"), probabilities(scores), targets(scores)
    values = {LOSS.name: loss.tolist()} if loss.isfinite().all() else {}
    columns: dict[str, list[Any]] = {}
    recomputed: dict[str, Recomputed] = {}
    if shares.isfinite().all() and len(shares):
        at_half, at_chosen = shares >= LIKELIER_THAN_NOT, shares >= thresholds(calibration, classes)
        columns = {"targets": truths.tolist(), "probabilities": shares.tolist()}
        columns |= {"at_half": at_half.int().tolist(), "at_chosen": at_chosen.int().tolist()}
        recomputed = {
            MAP.name: Recomputed("label_set_average_precision"),
            AUROC.name: Recomputed("label_set_auroc"),
            F1.name: Recomputed("label_set_f1", {"claimed": "at_half"}),
            F1_CHOSEN.name: Recomputed("label_set_f1", {"claimed": "at_chosen"}),
        }
    return Items(f"{split}_items", scores.ids, values, scores.group_of_each, columns, recomputed)
