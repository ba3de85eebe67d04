"""The loss of expressions without boxes, and what is counted of them.

An EMA teacher after RefTeacher (Sun et al., CVPR 2023): it answers the weak view, its box is carried to the strong one
by the exact affines of both, and counts there by the teacher's confidence. RefTeacher learns no box from the pool, only
a map of confidence, and imitates attention; a box is what our networks say, so that is what they learn (our choice).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from augment.geometry import clip_boxes, follow_boxes, invert, map_boxes
from models.detr.boxes import generalized_iou, to_centre, to_corners
from vision_train.recipe.recipe import Recipe
from vision_train.semi.box_health import BoxCounts
from vision_train.semi.boxes import Judged
from vision_train.semi.consistency import capped
from vision_train.semi.health import estimated_accuracy
from vision_train.semi.monitor import Reading
from vision_train.tasks.base import Batch
from vision_train.tasks.grounding.results import ACCURACY, LEAST_IOU, Results, ious
from vision_train.tasks.teaching import ask_teacher, evaluating

if TYPE_CHECKING:
    from vision_train.tasks.grounding.task import GroundingTask

KINDS = ("expression",)
"""What boxes are counted as: expressions have no classes."""
LEAST_KEPT = 0.5
"""Share of a box that has to lie on the image for it to be learnt."""


class Taught(NamedTuple):
    """What the student is taught of strong views."""

    boxes: Tensor
    """U 4 float32, centre and sides as shares of the square; any box where the weight is 0."""
    weights: Tensor
    """U float32, 0 for a box that is not finite, or that lies mostly off the image."""
    judged: list[Judged]
    """For the figures of the teacher's health."""


def teach(boxes: Tensor, confidences: Tensor, weak: Batch, strong: Batch) -> Taught:
    """Carry a teacher's boxes from weak views to strong ones.

    Args:
        boxes: U 4, centre and sides as shares of the weak views' squares.
        confidences: U, in [0, 1].
        weak: The views that it answered.
        strong: Views of the same images.
    """
    corners = (to_corners(boxes.double()) * weak["image"].shape[-1]).cpu().numpy()
    side = strong["image"].shape[-1]
    affines = zip(weak["affine"].cpu().numpy(), strong["affine"].cpu().numpy(), strong["size"], strict=True)
    targets, kept, judged = np.full((len(corners), 4), 0.5 * side), np.zeros(len(corners), dtype=bool), list[Judged]()
    for place, (before, after, size) in enumerate(affines):
        if not np.isfinite(corners[place]).all():
            judged.append(_judged(0.0, accepted=False, finite=False))
            continue
        inside, share = clip_boxes(map_boxes(corners[[place]], invert(before)), size)
        followed = follow_boxes(inside, after, (side, side))
        kept[place] = bool(share[0] >= LEAST_KEPT and followed.visible[0])
        targets[place] = followed.boxes[0]
        area = float((inside[0, 2:] - inside[0, :2]).prod())
        judged.append(_judged(area, accepted=bool(kept[place]), finite=True))
    shares = to_centre(torch.from_numpy(targets / side)).to(boxes)
    weights = torch.where(torch.from_numpy(kept).to(boxes.device), confidences, 0.0)
    return Taught(shares, weights, judged)


def _judged(area: float, *, accepted: bool, finite: bool) -> Judged:
    count = int(finite)
    return Judged(np.zeros(count, dtype=np.int64), np.full(count, accepted), np.full(count, area), finite)


class PhrasePool(nn.Module):
    """Lets a teacher answer expressions without boxes, and weighs the loss of learning that.

    A module for the sake of its buffers, which stand in checkpoints.

    Args:
        recipe: The checked recipe; its ``semi.method`` is one of those that use the pool in each step.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.weight = recipe.semi.weight
        self.counts = BoxCounts(len(KINDS))

    def learn(self, task: GroundingTask, labelled: Batch, pool: Batch, labelled_loss: Tensor) -> Tensor | float:
        """Let the teacher answer, and take the loss of the strong views. All processes call this.

        Args:
            task: Asks at its present step.
            labelled: The labelled expressions of the step.
            pool: U expressions without boxes in two views.
            labelled_loss: Scalar.

        Returns:
            What is added to the loss.
        """
        teaching = task.teaching
        assert teaching is not None
        if (turn := teaching.turn(task.global_step, task.steps_per_epoch)) is None:
            return 0.0
        weak, strong = pool["weak"], pool["strong"]
        said = ask_teacher(task, *task.inputs(weak))
        confidences = task.confidences(said)
        if turn.observes:
            teaching.observe(confidences)
        if not turn.labels:
            return 0.0
        taught = teach(said.boxes, confidences, weak, strong)
        agreement = _agreement(task, weak, said.boxes) if turn.compares else (0, 0)
        self.counts.add_boxes(taught.judged, _areas(labelled), agreement)
        if not turn.adds:
            return 0.0
        parts = task.criterion(task.find(strong), taught.boxes, taught.weights)
        loss = self.weight * torch.stack([*parts.values()]).sum()
        self.counts.add_losses(loss.detach(), labelled_loss.detach())
        return capped(loss, labelled_loss)

    def reading(self, results: Results, measured: Mapping[str, float]) -> Reading | None:
        """What is known at a validation, and begin to count anew; None if nothing was counted.

        Args:
            results: Of the validation expressions.
            measured: Their metrics.
        """
        figures = self.counts.figures()
        if not figures.images:
            return None
        self.counts.reset()
        right = torch.from_numpy(ious(results) >= LEAST_IOU[ACCURACY.name])
        estimate = estimated_accuracy(confidences_of(results).nan_to_num(1.0), right)
        accuracy = measured[ACCURACY.name]
        return Reading(figures, estimate, accuracy, (accuracy * (1 - accuracy) / max(len(right), 1)) ** 0.5)


def confidences_of(results: Results) -> Tensor:
    """How sure the network is of each expression, float32; NaN without a quantised head."""
    return torch.tensor([each.confidence for each in results.values()], dtype=torch.float32)


def _areas(labelled: Batch) -> list[Tensor]:
    """Area of the box of each labelled expression, in pixels of the original image."""
    sides = labelled["boxes"][:, 2:].double() * labelled["image"].shape[-1]
    scales = torch.linalg.det(labelled["affine"][:, :2, :2].double()).abs().to(sides.device)
    return [*(sides.prod(dim=1) / scales)[:, None]]


def _agreement(task: GroundingTask, weak: Batch, boxes: Tensor) -> tuple[int, int]:
    """Expressions that teacher and student are asked about on weak views, and those whose boxes overlap."""
    with torch.no_grad(), evaluating(task.network):
        own = task.find(weak).boxes
    finite = boxes.isfinite().all(dim=1)
    overlaps = generalized_iou(to_corners(own.float()), to_corners(boxes.float()))[0]
    return int(finite.sum()), int((finite & (overlaps >= LEAST_IOU[ACCURACY.name])).sum())
