"""Boxes as detection transformers use them: centre, width and height, each in [0, 1] of the image without padding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPSILON = 1e-3
"""What a share is kept away from 0 and 1 before its logit; the published weights were trained with it."""


def logit(share: Tensor) -> Tensor:
    """Invert the sigmoid; shares within 0.001 of 0 or 1, or beyond, give a finite number."""
    return torch.log(share.clamp(_EPSILON, 1.0) / (1 - share).clamp(_EPSILON, 1.0))


def embed_boxes(boxes: Tensor, width: int, temperature: float = 10_000.0) -> Tensor:
    """Embed each coordinate by sines and cosines of its multiples.

    Args:
        boxes: ... x 4, centre x, centre y, width, height.
        width: Numbers for each coordinate; even.
        temperature: Ratio of the longest to the shortest wave, nearly.

    Returns:
        ... x 4 width, in the order y, x, width, height; sine and cosine alternate.
    """
    phases = boxes[..., [1, 0, 2, 3], None] * (2 * math.pi) / wave_lengths(width, temperature, boxes.device)
    return interleave(phases).flatten(-2)


def wave_lengths(width: int, temperature: float, device: torch.device) -> Tensor:
    """``temperature ** (2 k / width)`` for k from 0 to width / 2 - 1, as float32."""
    exponents = torch.arange(width // 2, dtype=torch.float32, device=device) * 2 / width
    return temperature**exponents


def interleave(phases: Tensor) -> Tensor:
    """... x K phases -> ... x 2K: the sine of the first, its cosine, the sine of the second and so on."""
    return torch.stack((phases.sin(), phases.cos()), dim=-1).flatten(-2)


def to_corners(boxes: Tensor) -> Tensor:
    """... x 4, centre and sides -> left, top, right, bottom; exact under ``torch.export`` and without copies."""
    centre, sides = boxes[..., :2], boxes[..., 2:]
    return torch.cat((centre - 0.5 * sides, centre + 0.5 * sides), dim=-1)


def to_centre(corners: Tensor) -> Tensor:
    """... x 4, left, top, right, bottom -> centre and sides."""
    first, last = corners[..., :2], corners[..., 2:]
    return torch.cat(((first + last) / 2, last - first), dim=-1)


def generalized_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the generalised one (Rezatofighi et al., 2019), of boxes that broadcast.

    Args:
        first: ... x 4, as corners.
        second: ... x 4, as corners.

    Returns:
        IoU and GIoU, of the broadcast shape without its last dimension. Two boxes without an area have an IoU of 0.
    """
    smallest, largest = torch.minimum, torch.maximum
    inner = (smallest(first[..., 2:], second[..., 2:]) - largest(first[..., :2], second[..., :2])).clamp(min=0)
    outer = (largest(first[..., 2:], second[..., 2:]) - smallest(first[..., :2], second[..., :2])).clamp(min=0)
    intersection, hull = inner.prod(-1), outer.prod(-1)
    union = _area(first) + _area(second) - intersection
    tiny = torch.finfo(union.dtype).tiny
    iou = intersection / union.clamp(min=tiny)
    return iou, iou - (hull - union) / hull.clamp(min=tiny)


def _area(corners: Tensor) -> Tensor:
    return (corners[..., 2] - corners[..., 0]) * (corners[..., 3] - corners[..., 1])
