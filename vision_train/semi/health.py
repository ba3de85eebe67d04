"""Figures of a teacher's health: what it accepts of the pool, as what, and whether that can be right.

None of them reads a label of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from vision_train.artefacts import Table
from vision_train.processes import sum_over_processes
from vision_train.semi.state import RunningState
from vision_train.statistics import Interval, wilson_interval


@dataclass(frozen=True)
class PoolFigures:
    """What the teacher said of the pool since the last reading. Shares are NaN where there was nothing to divide."""

    images: int
    not_finite: int
    """Images for which the teacher returned values that are not finite."""
    accepted: float
    """Mean weight of the images."""
    accepted_of_class: tuple[float, ...]
    """Mean weight of the images labelled with each class."""
    label_shares: tuple[float, ...]
    """Share of each class among all labels, accepted or not."""
    accepted_shares: tuple[float, ...]
    """Share of each class in the weights."""
    agreement: float
    """Share of images that student and teacher give the same class, on weak views."""
    loss_ratio: float
    """Loss of the pool, with its weight and before any bound, over that of labelled images."""

    @property
    def further(self) -> dict[str, float]:
        """Other figures for the log, by name."""
        return {}

    def tables(self) -> list[Table]:
        """Other figures for the report."""
        return []

    @property
    def never_accepted(self) -> list[int]:
        """Classes of which no image was accepted."""
        return [index for index, share in enumerate(self.accepted_shares) if not share > 0]

    @property
    def label_entropy(self) -> float:
        """Entropy of the labels over log C: 1 where all classes are equally frequent, 0 where there is only one."""
        return normalised_entropy(self.label_shares)


class PoolCounts(RunningState):
    """Counts what happens to the pool from one reading to the next, over all processes.

    Args:
        classes: C.
    """

    labels: Tensor
    """C, images of each label, int64."""
    weights: Tensor
    """C, sum of the weights of each label."""
    rows: Tensor
    """Images; those that are not finite; those that a student was asked about; those it agreed on. int64."""
    losses: Tensor
    """Sum of the losses of the pool and of those of labelled images."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("labels", torch.zeros(classes, dtype=torch.long))
        self.register_buffer("weights", torch.zeros(classes, dtype=torch.float32))
        self.register_buffer("rows", torch.zeros(4, dtype=torch.long))
        self.register_buffer("losses", torch.zeros(2, dtype=torch.float32))

    @torch.no_grad()
    def add(self, probabilities: Tensor, weights: Tensor, student: Tensor | None = None) -> None:
        """Count a batch; all processes take part.

        Args:
            probabilities: Of the teacher on weak views, U C.
            weights: That the rule gave the images, U.
            student: Logits or probabilities of the student on the same views, U C; None where it was not asked.
        """
        finite, labels = probabilities.isfinite().all(dim=-1), probabilities.argmax(dim=-1)
        of_label = torch.zeros_like(self.labels).index_add_(0, labels, finite.long())
        weight = torch.zeros_like(self.weights).index_add_(0, labels, torch.where(finite, weights, 0.0).float())
        asked, agreed = torch.zeros_like(finite), torch.zeros_like(finite)
        if student is not None:
            asked, agreed = finite, finite & (student.argmax(dim=-1) == labels)
        images = torch.full((), len(finite), device=finite.device)
        rows = torch.stack([images, (~finite).sum(), asked.sum(), agreed.sum()])
        self._count((self.labels, of_label), (self.weights, weight), (self.rows, rows))

    @staticmethod
    def _count(*counted: tuple[Tensor, Tensor]) -> None:
        """Add to each total what all processes counted."""
        for total, part in counted:
            total.add_(sum_over_processes(part))

    @torch.no_grad()
    def add_losses(self, pool_loss: Tensor, labelled_loss: Tensor) -> None:
        """Count the losses of a step, that of the pool weighted but not bounded; all processes take part."""
        self.losses.add_(sum_over_processes(torch.stack([pool_loss, labelled_loss]).float()))

    def figures(self) -> PoolFigures:
        """What was counted so far; the same in all processes."""
        images, not_finite, asked, agreed = self.rows.tolist()
        labels, weights, (pool, labelled) = self.labels.tolist(), self.weights.tolist(), self.losses.tolist()
        return PoolFigures(
            images=images,
            not_finite=not_finite,
            accepted=_divide(sum(weights), images),
            accepted_of_class=tuple(_divide(weight, count) for weight, count in zip(weights, labels, strict=True)),
            label_shares=tuple(_divide(count, sum(labels)) for count in labels),
            accepted_shares=tuple(_divide(weight, sum(weights)) for weight in weights),
            agreement=_divide(agreed, asked),
            loss_ratio=_divide(pool, labelled),
        )

    def reset(self) -> None:
        """Start to count anew."""
        for buffer in self.buffers():
            buffer.zero_()


class Estimate(NamedTuple):
    """How often accepted labels are right, as validation images tell."""

    accuracy: float
    images: float
    """Images that it rests on; with weights between 0 and 1, as many as would leave the mean as uncertain."""
    interval: Interval
    """95 %, Wilson."""


def estimated_accuracy(weights: Tensor, right: Tensor) -> Estimate | None:
    """Accuracy of accepted labels, estimated on validation images that the same rule is asked about.

    Args:
        weights: That the rule gives N validation images.
        right: Whether the teacher's class is the true one, N bool.

    Returns:
        None where the rule accepts no validation image.
    """
    total = weights.sum().item()
    if total == 0:
        return None
    accuracy = min((weights * right).sum().item() / total, 1.0)
    images = total**2 / weights.square().sum().item()
    return Estimate(accuracy, images, wilson_interval(accuracy, max(1, round(images))))


def normalised_entropy(shares: Sequence[float]) -> float:
    """Entropy of C shares over log C, in [0, 1]; NaN where they are, or where there is one class."""
    if len(shares) < 2:
        return math.nan
    return float(stats.entropy(shares) / math.log(len(shares)))


def distance_to_prior(shares: Sequence[float], prior: Sequence[float]) -> float:
    """Total variation between two histograms of classes: the share of images that would have to change class.

    Args:
        shares: Of pseudo-labels, C, with a sum of 1.
        prior: Of labelled images, likewise.
    """
    return float(np.abs(np.subtract(shares, prior)).sum() / 2)


def separation(validation: Tensor, pool: Tensor) -> float:
    """How far confidence tells validation images from those of the pool: the area under the ROC curve.

    0.5 where the pool is like the validation images, up to 1 where the teacher is less sure of the pool, and below 0.5
    where it is surer of the pool, as it is of copies of the images that it was trained on.

    Args:
        validation: The teacher's highest probability for each of N validation images.
        pool: Likewise for M images of the pool.
    """
    ranks = stats.mannwhitneyu(validation.double().numpy(force=True), pool.double().numpy(force=True))
    return float(ranks.statistic / (len(validation) * len(pool)))


def separation_error(validation: int, pool: int) -> float:
    """Standard error of :func:`separation` between so many images that come from one place."""
    return math.sqrt((validation + pool + 1) / (12 * validation * pool))


def compare_origins(validation: Tensor, pool: Tensor) -> dict[str, float] | None:
    """Compare how sure a teacher is of validation images and of the pool, which it was asked about before.

    A teacher that still learned meanwhile is surer of validation images for that reason alone. So the later half of the
    pool is compared, and as much is taken off as that half is told from the earlier one: images of one place at two
    times, which lie further apart than the later half and the validation. This is our choice.

    Args:
        validation: The teacher's highest probability for each of N validation images.
        pool: Likewise for M images of the pool, in the order in which it was asked.

    Returns:
        Arguments of :func:`monitor.origin_signs`; None of fewer than two images of the pool, or where the teacher
        returned values that are not finite.
    """
    earlier, later = pool[: len(pool) // 2], pool[len(pool) // 2 :]
    if not (len(validation) and len(earlier) and pool.isfinite().all() and validation.isfinite().all()):
        return None
    found, drift = separation(validation, later) - 0.5, abs(separation(later, earlier) - 0.5)
    return {
        "separation": 0.5 + math.copysign(max(abs(found) - drift, 0.0), found),
        "validation": validation.mean().item(),
        "pool": later.mean().item(),
        "error": separation_error(len(validation), len(later)),
    }


def _divide(above: float, below: float) -> float:
    return above / below if below else math.nan
