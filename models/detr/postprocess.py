"""What a detector found, as boxes in pixels."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from models.detr.boxes import to_corners


class Detections(NamedTuple):
    """The likeliest boxes of B images, the likeliest first."""

    scores: Tensor
    """B x K, in [0, 1]."""
    labels: Tensor
    """B x K."""
    boxes: Tensor
    """B x K x 4, left, top, right, bottom in pixels; they may reach beyond the image."""


def likeliest_boxes(logits: Tensor, boxes: Tensor, sizes: Tensor, count: int = 300) -> Detections:
    """Choose the most probable pairs of a query and a class; a query may be chosen for several classes.

    Args:
        logits: B x N x C, of the last layer.
        boxes: B x N x 4, centre and sides as shares of the image.
        sizes: B x 2, height and width of each image in pixels.
        count: Pairs, K, as far as there are as many.
    """
    classes = logits.shape[-1]
    pairs = logits.float().sigmoid().flatten(1)
    scores, places = pairs.topk(min(count, pairs.shape[1]), dim=1)
    chosen = to_corners(boxes.float()).gather(1, (places // classes)[..., None].expand(-1, -1, 4))
    return Detections(scores, places % classes, chosen * sizes.flip(1).repeat(1, 2)[:, None])
