"""Losses of detection, of all layers at once: class, distance of boxes, and generalised IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from models.detr.boxes import generalized_iou, to_corners
from models.detr.decoder import Predictions
from models.detr.denoising import DenoisingQueries, Target
from models.detr.matching import Matches, MatchingCosts, match, pad_targets
from models.detr.network import Found, Trained

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
        counted: (L x) B x N, queries that count as background where they are not matched; None counts all.
    """
    logits, places = predictions.logits.float(), (matches.layer, matches.image, matches.query)
    weights = loss_weights(targets)
    boxes, labels = pad_targets(targets)
    wanted, label = boxes[matches.image, matches.target], labels[matches.image, matches.target]
    found = predictions.boxes.float()[places]
    iou, giou = generalized_iou(to_corners(found), to_corners(wanted))

    matched = logits[(*places, label)]
    negative = _negative(logits, class_loss)
    if counted is not None:
        counted = counted.expand(logits.shape[:-1]).index_put(places, counted.new_ones(()))
        negative = negative * counted[..., None]
    instead = _positive(matched, iou.detach(), class_loss) - _negative(matched, class_loss)
    distance, overlap, layers = (found - wanted).abs().sum(-1), 1 - giou, len(logits)
    if weights is not None:
        of_pair = weights.boxes[matches.image, matches.target]
        negative = negative * weights.images[:, None, None]
        instead = instead * weights.images[matches.image]
        distance, overlap = distance * of_pair, overlap * of_pair

    def by_layer(values: Tensor) -> Tensor:
        return values.new_zeros(layers).index_add(0, matches.layer, values) / boxes_in_all

    return Losses(negative.sum((1, 2, 3)) / boxes_in_all + by_layer(instead), by_layer(distance), by_layer(overlap))


class LossWeights(NamedTuple):
    """By which losses are multiplied."""

    images: Tensor
    """B, losses of the class."""
    boxes: Tensor
    """B x T, losses of the box that finds a target, the weight of its image included."""


def loss_weights(targets: Sequence[Target]) -> LossWeights | None:
    """Weights of images and of the boxes of their targets; None where nothing weighs less than another."""
    if all(target.weight == 1 and target.box_weights is None for target in targets):
        return None
    device = targets[0].boxes.device
    images = torch.tensor([target.weight for target in targets]).to(device, non_blocking=True)
    own = [
        target.boxes.new_ones(len(target.boxes)) if target.box_weights is None else target.box_weights.to(images)
        for target in targets
    ]
    return LossWeights(images, pad_sequence(own, batch_first=True).float() * images[:, None])


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


@torch.no_grad()
def outside_ignored(boxes: Tensor, targets: Sequence[Target]) -> Tensor | None:
    """Which boxes do not lie by more than half in an ignored region of their image.

    Args:
        boxes: L x B x N x 4.
        targets: Of each image.

    Returns:
        L x B x N; None where no image has such a region.
    """
    ignored = _regions([each.ignored for each in targets], boxes)
    if ignored is None:
        return None
    corners = to_corners(boxes)[..., None, :]
    inner = torch.minimum(corners[..., 2:], ignored[..., 2:]) - torch.maximum(corners[..., :2], ignored[..., :2])
    return (inner.clamp(min=0).prod(-1) <= 0.5 * boxes[..., 2:].prod(-1)[..., None]).all(-1)


@torch.no_grad()
def apart_from_unsure(boxes: Tensor, targets: Sequence[Target]) -> Tensor | None:
    """Which boxes have an IoU of at most one half with all regions of their image where there may be an object.

    Args:
        boxes: L x B x N x 4.
        targets: Of each image.

    Returns:
        L x B x N; None where no image has such a region.
    """
    unsure = _regions([each.unsure for each in targets], boxes)
    if unsure is None:
        return None
    iou, _ = generalized_iou(to_corners(boxes.float())[..., None, :], unsure.float())
    return (iou <= 0.5).all(-1)


def _regions(regions: Sequence[Tensor | None], boxes: Tensor) -> Tensor | None:
    """Regions of each image as corners, 1 B 1 m 4; what an image lacks is a zero. None where none has any."""
    given = [boxes.new_zeros(0, 4) if each is None else each.to(boxes) for each in regions]
    return to_corners(pad_sequence(given, batch_first=True))[None, :, None] if sum(map(len, given)) else None


def _counted(boxes: Tensor, targets: Sequence[Target]) -> Tensor | None:
    """Which queries count as background where they are not matched, L x B x N; None for all."""
    known = [each for each in (outside_ignored(boxes, targets), apart_from_unsure(boxes, targets)) if each is not None]
    return torch.stack(known).all(0) if known else None


def denoising_matches(queries: DenoisingQueries, counts: Sequence[int], layers: int) -> Matches:
    """The positive query of each group and target, on every layer: nothing has to be found."""
    device = queries.filled.device
    pairs = [
        (image, 2 * group * queries.per_group + place, place)
        for image, count in enumerate(counts)
        for group in range(queries.groups)
        for place in range(min(count, queries.per_group))
    ]
    listed = torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).T.to(device, non_blocking=True)
    image, query, target = listed.repeat(1, layers)
    return Matches(torch.arange(layers, device=device).repeat_interleave(len(pairs)), image, query, target)


def count_boxes(targets: Sequence[Target], repeats: int = 1) -> Tensor:
    """Targets of a process on average over all processes, each counted ``repeats`` times; at least 1."""
    device = targets[0].boxes.device
    total = torch.full((), float(repeats * sum(len(target.labels) for target in targets)), device=device)
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        total = total / distributed.get_world_size()
    return total.clamp(min=1)


class Criterion:
    """The loss of a training step: matching and losses of all layers, encoder, denoising and hybrid queries.

    Args:
        costs: Of a pair, for matching.
        class_loss: ``vfl`` or ``focal``.
        repeats: Hybrid queries that each target gets, k.
        weights: Of class, distance and generalised IoU.
        hide_empty: Whether empty slots of denoising do not count as background. In the official code they do.
    """

    def __init__(
        self,
        costs: MatchingCosts | None = None,
        class_loss: ClassLoss = "vfl",
        repeats: int = 6,
        weights: tuple[float, float, float] = (1.0, 5.0, 2.0),
        *,
        hide_empty: bool = True,
    ) -> None:
        self.costs = costs or MatchingCosts()
        self.class_loss, self.repeats, self.weights, self.hide_empty = class_loss, repeats, weights, hide_empty

    def __call__(self, trained: Trained, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Weighted losses by name; their sum is what is minimised.

        Names are the official ones: ``loss_class``, ``loss_bbox`` and ``loss_giou``, with the number of a layer before
        the last, ``_enc`` for the first stage, ``_dn`` for denoising and ``_hybrid``.
        """
        counts = [len(target.labels) for target in targets]
        branches = [(trained.found, 1, "")]
        if trained.hybrid is not None:
            branches.append((trained.hybrid, self.repeats, "_hybrid"))
        predictions = [_all_layers(found) for found, _, _ in branches]
        costs = [self.costs(each, targets) for each in predictions]
        losses: dict[str, Tensor] = {}
        matches = match(costs, counts, [repeats for _, repeats, _ in branches])
        for each, pairs, (_, repeats, suffix) in zip(predictions, matches, branches, strict=True):
            counted = _counted(each.boxes, targets)
            found = detection_losses(each, targets, pairs, count_boxes(targets, repeats), self.class_loss, counted)
            layers = [*_names(len(each.logits) - 1), "_enc"]
            losses |= self._weighted(found, [layer + suffix for layer in layers])
        return losses | self._denoising(trained, targets, counts)

    def _denoising(self, trained: Trained, targets: Sequence[Target], counts: Sequence[int]) -> dict[str, Tensor]:
        if trained.denoising is None or trained.spoilt is None:
            return {}
        layers = len(trained.denoising.logits)
        pairs = denoising_matches(trained.spoilt, counts, layers)
        boxes = count_boxes(targets) * trained.spoilt.groups
        counted = trained.spoilt.filled if self.hide_empty else None
        found = detection_losses(trained.denoising, targets, pairs, boxes, self.class_loss, counted)
        return self._weighted(found, [f"_dn{layer}" for layer in _names(layers)])

    def _weighted(self, losses: Losses, suffixes: Sequence[str]) -> dict[str, Tensor]:
        named = zip(("class", "bbox", "giou"), losses, self.weights, strict=True)
        return {
            f"loss_{name}{suffix}": weight * value
            for name, values, weight in named
            for suffix, value in zip(suffixes, values, strict=True)
        }


def _all_layers(found: Found) -> Predictions:
    """Those of the queries, and the first stage as one layer more."""
    return Predictions(
        torch.cat((found.queries.logits, found.first_stage.logits)),
        torch.cat((found.queries.boxes, found.first_stage.boxes)),
    )


def _names(layers: int) -> list[str]:
    return [*(f"_{layer}" for layer in range(layers - 1)), ""]
