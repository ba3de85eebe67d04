"""The learned relation as a function of what can be drawn: how far another box lies, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.detr.relation import PositionRelation

SIZE_RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)
STEPS = 26
"""Steps of the distance, from 0 to 4.1 sides; each is as wide as the shortest wave of the embedding is long there."""
DIRECTIONS, WITHIN_STEP = 16, 10
"""Places that a value is the mean of, so that the shortest wave, which no eye needs, is levelled."""
_SIDE = 0.05
"""The box that attends has this side, as a share of the image; all lengths are measured in it."""


@dataclass(frozen=True)
class RelationBias:
    """What H heads of attention add to the score of a box, by how far it lies and how large it is."""

    name: str
    title: str
    distances: list[float]
    """D, between centres, in sides of the box that attends."""
    size_ratios: list[float]
    """R, side of the other box over that of the box that attends."""
    heads: list[list[list[float]]]
    """H x R x D, at least 0."""
    note: str = ""


def mean_bias(relation: PositionRelation) -> tuple[list[float], np.ndarray]:
    """The bias that a square box gives to other square boxes around it, averaged over directions.

    Args:
        relation: Learned.

    Returns:
        Distances (D) in sides of the box, the middle of each step, and biases (H x R x D) for ``SIZE_RATIOS``.
    """
    weight = next(relation.parameters())
    wave = 2 * torch.pi / relation.scale  # of log(1 + distance)
    steps = torch.expm1((torch.arange(STEPS * WITHIN_STEP) + 0.5) / WITHIN_STEP * wave)
    angles = torch.arange(DIRECTIONS) * 2 * torch.pi / DIRECTIONS
    offsets = steps[:, None, None] * torch.stack((angles.cos(), angles.sin()), dim=-1) * _SIDE  # steps, directions, 2
    rows = torch.full((1, 1, 4), 0.5)
    rows[..., 2:] = _SIDE
    with torch.no_grad():
        biases = [_of_ratio(relation, rows, offsets, ratio, weight) for ratio in SIZE_RATIOS]
    middles = steps.view(STEPS, WITHIN_STEP).mean(1)
    return middles.tolist(), torch.stack(biases, dim=1).double().cpu().numpy()


def _of_ratio(relation: PositionRelation, rows: Tensor, offsets: Tensor, ratio: float, weight: Tensor) -> Tensor:
    """H x D."""
    sides = torch.full((*offsets.shape[:2], 2), ratio * _SIDE)
    columns = torch.cat((0.5 + offsets, sides), dim=-1).flatten(0, 1)[None]
    bias = relation(rows.to(weight.device), columns.to(weight.device))[0, :, 0]  # H, steps x directions
    return bias.view(len(bias), STEPS, -1).mean(2)
