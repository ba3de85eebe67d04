"""Matching of queries to targets, of all layers in one call (Carion et al., "DETR", ECCV 2020, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from models.detr.boxes import generalized_iou, to_corners
from models.detr.decoder import Predictions
from models.detr.denoising import Target

_EPSILON = 1e-6
_PAIRS_AT_ONCE = 2**22
"""Pairs of a query and a target whose costs are computed at a time."""


class Matches(NamedTuple):
    """Pairs of a query and a target, of all layers and images."""

    layer: Tensor
    image: Tensor
    query: Tensor
    target: Tensor
    """Number among the targets of the image."""


@dataclass(frozen=True)
class MatchingCosts:
    """What a pair costs: weights of its class, of the distance of its boxes, and of their generalised IoU."""

    label: float = 2.0
    distance: float = 5.0
    giou: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0

    @torch.no_grad()
    def __call__(self, predictions: Predictions, targets: Sequence[Target]) -> Tensor:
        """Costs of all pairs, L x B x Q x T in float32, where T is the count of the fullest image.

        Those of targets that an image does not have mean nothing.
        """
        boxes, labels = pad_targets(targets)
        logits, found = predictions.logits.float(), predictions.boxes.float()
        step = max(1, _PAIRS_AT_ONCE // max(1, logits[..., 0].numel() * 4))
        parts = [
            self._costs(logits, found, boxes[:, start : start + step], labels[:, start : start + step])
            for start in range(0, boxes.shape[1], step)
        ]
        return torch.cat(parts, dim=-1) if parts else found.new_zeros(*found.shape[:-1], 0)

    def _costs(self, logits: Tensor, found: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        layers, _, queries, _ = logits.shape
        asked = labels[None, :, None].expand(layers, -1, queries, -1)
        probability = logits.gather(-1, asked).sigmoid()
        positive = self.alpha * (1 - probability) ** self.gamma * -(probability + _EPSILON).log()
        negative = (1 - self.alpha) * probability**self.gamma * -(1 - probability + _EPSILON).log()
        boxes = boxes[None, :, None]
        distance = (found[..., None, :] - boxes).abs().sum(-1)
        _, giou = generalized_iou(to_corners(found)[..., None, :], to_corners(boxes))
        return self.label * (positive - negative) + self.distance * distance - self.giou * giou


def pad_targets(targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
    """Boxes B x T x 4 in float32 and labels B x T of all images; what an image lacks is a zero."""
    boxes = torch.nn.utils.rnn.pad_sequence([target.boxes.float() for target in targets], batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence([target.labels for target in targets], batch_first=True)
    return boxes, labels


def match(costs: Sequence[Tensor], counts: Sequence[int], repeats: Sequence[int]) -> list[Matches]:
    """Match queries to targets at the least total cost, each target ``repeats`` times.

    All costs are copied to the host at once.

    Args:
        costs: Several tensors L x B x Q x T.
        counts: Targets of each image.
        repeats: For each tensor, how many queries a target gets, as far as they suffice.

    Returns:
        The pairs of each tensor. Costs that are not finite count as more than any that is.
    """
    sizes = [cost.numel() for cost in costs]
    flat = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()
    flat = _finite(flat)
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [
        _match(part.reshape(tuple(cost.shape)), counts, repeat, cost.device)
        for part, cost, repeat in zip(parts, costs, repeats, strict=True)
    ]


def _finite(costs: np.ndarray) -> np.ndarray:
    finite = np.isfinite(costs)
    if finite.all():
        return costs
    largest = costs[finite].max(initial=0.0)
    return np.where(finite, costs, abs(largest) + 1.0 + largest)


def _match(costs: np.ndarray, counts: Sequence[int], repeats: int, device: torch.device) -> Matches:
    rows: list[np.ndarray] = []
    for layer, of_layer in enumerate(costs):
        for image, count in enumerate(counts):
            if not count:
                continue
            query, column = linear_sum_assignment(np.tile(of_layer[image, :, :count], (1, repeats)))
            rows.append(np.stack((np.full_like(query, layer), np.full_like(query, image), query, column % count)))
    pairs = np.concatenate(rows, axis=1) if rows else np.zeros((4, 0), dtype=np.int64)
    return Matches(*torch.from_numpy(pairs).to(device, non_blocking=True))
