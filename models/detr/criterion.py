"""Losses of detection, of all layers at once: class, distance of boxes, and generalised IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.detr.boxes import generalized_iou, to_corners
from models.detr.decoder import Predictions
from models.detr.denoising import DenoisingQueries, Target
from models.detr.matching import Matches, pad_targets

ClassLoss = Literal["vfl", "focal"]
_ALPHA, _GAMMA = 0.25, 2.0


class Losses(NamedTuple):
    """Losses of each layer, L numbers each, before they are weighted."""

    label: Tensor
    distance: Tensor
    giou: Tensor


def detection_losses(
    predictions: Predictions,
    targets: Sequence[Target],
    matches: Matches,
    boxes_in_all: Tensor,
    class_loss: ClassLoss = "vfl",
    counted: Tensor | None = None,
) -> Losses:
    """Take the losses of matched queries, and of all others as background.

    ``vfl`` asks a matched query for the IoU of its box as probability of its class (Zhang et al., "VarifocalNet", CVPR
    2021, equation 2); ``focal`` asks it for 1 (Lin et al., "Focal Loss", ICCV 2017, equation 5).

    Args:
        predictions: Of L layers.
        targets: Of each image.
        matches: Pairs of a query and a target.
        boxes_in_all: What losses are divided by; a scalar.
        class_loss: ``vfl`` or ``focal``.
        counted: B x N, queries that count as background where they are not matched; None counts all.
    """
    logits, places = predictions.logits.float(), (matches.layer, matches.image, matches.query)
    boxes, labels = pad_targets(targets)
    wanted, label = boxes[matches.image, matches.target], labels[matches.image, matches.target]
    found = predictions.boxes.float()[places]
    iou, giou = generalized_iou(to_corners(found), to_corners(wanted))

    matched = logits[(*places, label)]
    negative = _negative(logits, class_loss)
    if counted is not None:
        negative = negative * counted[..., None]
    instead = _positive(matched, iou.detach(), class_loss) - _negative(matched, class_loss)
    layers = len(logits)

    def by_layer(values: Tensor) -> Tensor:
        return values.new_zeros(layers).index_add(0, matches.layer, values) / boxes_in_all

    return Losses(
        negative.sum((1, 2, 3)) / boxes_in_all + by_layer(instead),
        by_layer((found - wanted).abs().sum(-1)),
        by_layer(1 - giou),
    )


def _negative(logits: Tensor, class_loss: ClassLoss) -> Tensor:
    """The loss of a class that is not there."""
    probability = logits.sigmoid()
    weight = (1 - _ALPHA) * (probability.detach() if class_loss == "vfl" else probability) ** _GAMMA
    return weight * functional.softplus(logits)


def _positive(logits: Tensor, iou: Tensor, class_loss: ClassLoss) -> Tensor:
    """The loss of the class of a matched query."""
    if class_loss == "vfl":
        return iou * functional.binary_cross_entropy_with_logits(logits, iou, reduction="none")
    return _ALPHA * (1 - logits.sigmoid()) ** _GAMMA * functional.softplus(-logits)


def denoising_matches(queries: DenoisingQueries, counts: Sequence[int], layers: int) -> Matches:
    """The positive query of each group and target, on every layer: nothing has to be found."""
    device = queries.filled.device
    pairs = [
        (image, 2 * group * queries.per_group + place, place)
        for image, count in enumerate(counts)
        for group in range(queries.groups)
        for place in range(min(count, queries.per_group))
    ]
    image, query, target = torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).T.to(device).repeat(1, layers)
    return Matches(torch.arange(layers, device=device).repeat_interleave(len(pairs)), image, query, target)


def count_boxes(targets: Sequence[Target], repeats: int = 1) -> Tensor:
    """Targets of a process on average over all processes, each counted ``repeats`` times; at least 1."""
    device = targets[0].boxes.device
    total = torch.tensor(float(repeats * sum(len(target.labels) for target in targets)), device=device)
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        total = total / distributed.get_world_size()
    return total.clamp(min=1)
