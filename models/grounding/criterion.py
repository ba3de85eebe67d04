"""Losses of grounding: distance of boxes, generalised IoU, and the bins of coordinates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.detr.boxes import generalized_iou, to_corners
from models.grounding.output import GroundingOutput
from models.grounding.quantised import TargetKind, bin_losses, bin_targets


class GroundingLosses(NamedTuple):
    """Losses of each of B samples, before they are weighted; of a network with stages, the sums over all of them."""

    distance: Tensor
    """B: sum of the absolute differences of the four coordinates. The paper writes smooth L1; the code has this."""
    giou: Tensor
    """B: 1 - GIoU."""
    bins: Tensor | None
    """B: cross-entropy of the bins of the last stage; None without a quantised head."""


def grounding_losses(
    output: GroundingOutput, boxes: Tensor, target: TargetKind = "hard", deviation: float = 1.5
) -> GroundingLosses:
    """Compare what a network says with the boxes that it should have found.

    Args:
        output: Of the network.
        boxes: B x 4, centre and sides in [0, 1] of the padded frame.
        target: What the quantised head should say, see :func:`models.grounding.quantised.bin_targets`.
        deviation: Of Gaussian targets, in bins.
    """
    boxes = boxes.float()
    found = output.boxes[None]
    if output.earlier_boxes is not None:
        found = torch.cat((output.earlier_boxes, found))
    giou = generalized_iou(to_corners(found), to_corners(boxes))[1]
    bins = None
    if (logits := output.bin_logits) is not None:
        bins = bin_losses(logits, bin_targets(boxes, logits.shape[-1], target, deviation))
    return GroundingLosses((found - boxes).abs().sum(dim=(0, 2)), (1 - giou).sum(dim=0), bins)


class GroundingCriterion:
    """The loss of a training step.

    Args:
        distance: Weight of the distance; TransVG has 1, VLTVG 5.
        giou: Weight of the generalised IoU; TransVG has 1, VLTVG 2.
        bins: Weight of the bins, if there is a quantised head (our choice).
        target: What the quantised head should say.
        deviation: Of Gaussian targets, in bins.
    """

    def __init__(
        self,
        *,
        distance: float = 1.0,
        giou: float = 1.0,
        bins: float = 1.0,
        target: TargetKind = "hard",
        deviation: float = 1.5,
    ) -> None:
        self.weights = {"distance": distance, "giou": giou, "bins": bins}
        self.target, self.deviation = target, deviation

    def __call__(self, output: GroundingOutput, boxes: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Weighted losses by name; their sum is what is minimised.

        Args:
            output: Of the network.
            boxes: B x 4, centre and sides in [0, 1] of the padded frame.
            weights: B, of each sample; None weighs all by 1. The mean is over the samples, whatever their weights.
        """
        losses = grounding_losses(output, boxes, self.target, self.deviation)
        return {
            name: self.weights[name] * (each if weights is None else weights * each).mean()
            for name, each in losses._asdict().items()
            if each is not None
        }
