"""The position relation of Relation-DETR (Hou et al., ECCV 2024), in an exact form that holds no map of features.

As published, each pair of boxes gets 64 sines and cosines of four numbers, and a 1 x 1 convolution makes one number of
them for each head of attention. The convolution is a sum of four functions of one number each. Hence:

- sines of a ratio of widths or heights are taken apart into sines of each box; all pairs are one product of rank 32;
- distances belong to pairs alone; they are embedded a few rows at a time;
- the backward pass embeds again instead of keeping the embedding. As in the official code, boxes receive no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.detr.boxes import wave_lengths

_EPSILON = 1e-5
_NUMBERS_AT_ONCE = 2**18
"""Sines held at a time, and as many cosines: 1 MiB, which stays in a cache."""
_NUMBERS_IN_A_PROGRAM = 2**22
"""Those of an image at a time in a traced program, in which each repetition is written out."""


class PositionRelation(nn.Module):
    """Biases of attention between boxes, learned from how they lie to each other.

    Args:
        heads: Heads of attention, H.
        width: Sines and cosines of each of the four numbers of a pair; even.
        temperature: Ratio of the longest to the shortest wave, nearly.
        scale: What the numbers are multiplied by.
    """

    def __init__(self, heads: int, width: int = 16, temperature: float = 10_000.0, scale: float = 100.0) -> None:
        super().__init__()
        self.width, self.temperature, self.scale = width, temperature, scale
        self.pos_proj = nn.Sequential(nn.Conv2d(4 * width, heads, kernel_size=1), nn.ReLU())

    def forward(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Relate boxes to boxes.

        Args:
            rows: B x N x 4, centre and sides; of the queries of attention. Their sides are the units of distance.
            columns: B x M x 4, of its keys.

        Returns:
            B x H x N x M, float32, at least 0: added to the scores of attention.
        """
        projection = cast(nn.Conv2d, self.pos_proj[0])
        frequencies = self.scale / wave_lengths(self.width, self.temperature, rows.device)
        with torch.autocast(rows.device.type, enabled=False):  # a factor of 100 stands before the sine
            weight, bias = projection.weight.flatten(1).float(), cast(Tensor, projection.bias).float()
            boxes = rows.detach().float(), columns.detach().float()
            if torch.is_grad_enabled() and (weight.requires_grad or bias.requires_grad):
                relation: Tensor = _Relation.apply(*boxes, weight, bias, frequencies)
                return relation
            return _relate(*boxes, weight, bias, frequencies)


class _Relation(torch.autograd.Function):
    @staticmethod
    def forward(rows: Tensor, columns: Tensor, weight: Tensor, bias: Tensor, frequencies: Tensor) -> Tensor:
        return _relate(rows, columns, weight, bias, frequencies)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows, columns, _, _, frequencies = inputs
        ctx.save_for_backward(rows, columns, frequencies, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, Tensor, None]:
        rows, columns, frequencies, output = ctx.saved_tensors
        heads, waves = grad.shape[1], len(frequencies)
        by_place, by_size = grad.new_zeros(heads, 4 * waves), grad.new_zeros(heads, 4 * waves)
        by_bias = grad.new_zeros(heads)
        for part, sines, cosines in _embedded_distances(rows, columns, frequencies):
            felt = grad[:, :, part] * (output[:, :, part] > 0)
            flat = felt.transpose(0, 1).flatten(1)  # H, B n M
            by_place += torch.stack((flat @ sines.T, flat @ cosines.T), dim=-1).flatten(1)
            by_size += _sizes_gradient(felt, rows[:, part], columns, frequencies)
            by_bias += flat.sum(1)
        return None, None, torch.cat((by_place, by_size), dim=1), by_bias, None


def _relate(rows: Tensor, columns: Tensor, weight: Tensor, bias: Tensor, frequencies: Tensor) -> Tensor:
    half = weight.shape[1] // 2
    relation = _of_sizes(rows, columns, weight[:, half:], frequencies)  # B H N M
    relation += bias[:, None, None]
    of_sines, of_cosines = weight[:, 0:half:2], weight[:, 1:half:2]
    for part, sines, cosines in _embedded_distances(rows, columns, frequencies):
        flat = torch.addmm(of_sines @ sines, of_cosines, cosines)  # H, B n M
        relation[:, :, part] += flat.unflatten(1, (rows.shape[0], -1, columns.shape[1])).transpose(0, 1)
    return relation.relu_()


def _embedded_distances(rows: Tensor, columns: Tensor, frequencies: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Embed the distances in x and y, in sides of the row's box, a few rows at a time.

    Yields:
        The rows, and sines and cosines, 2 waves x B n M each, so that heads are products of matrices.
    """
    batch, count = rows.shape[0], columns.shape[1]
    numbers = count * 2 * len(frequencies)
    # A traced program takes any number of images, so its steps cannot depend on it.
    traced = torch.compiler.is_compiling()
    step = max(1, _NUMBERS_IN_A_PROGRAM // numbers if traced else _NUMBERS_AT_ONCE // max(1, batch * numbers))
    to, frequencies = columns[..., :2].permute(2, 0, 1)[:, :, None], frequencies[:, None]
    for start in range(0, rows.shape[1], step):
        part = slice(start, start + step)
        centre, sides = rows[:, part].permute(2, 0, 1)[..., None].chunk(2)
        distances = torch.log1p((centre - to).abs() / (sides + _EPSILON))  # 2 B n M
        phases = (distances.flatten(1)[:, None] * frequencies).flatten(0, 1)
        yield part, phases.sin(), phases.cos()


def _phases(boxes: Tensor, frequencies: Tensor) -> Tensor:
    """Phases of the logarithms of a box's sides, B x N x 2 waves: those of the width, then those of the height."""
    return (torch.log(boxes[..., 2:] + _EPSILON)[..., None] * frequencies).flatten(-2)


def _of_sizes(rows: Tensor, columns: Tensor, weight: Tensor, frequencies: Tensor) -> Tensor:
    """The share of widths and heights: B x H x N x M.

    For phases u of a row and v of a column, a sin(u - v) + c cos(u - v) is the sum of (a sin u + c cos u) cos v and
    (c sin u - a cos u) sin v.
    """
    u, v = _phases(rows, frequencies)[:, None], _phases(columns, frequencies)
    a, c = weight[:, None, 0::2], weight[:, None, 1::2]  # H 1 2waves
    of_rows = torch.cat((a * u.sin() + c * u.cos(), c * u.sin() - a * u.cos()), dim=-1)  # B H N 4waves
    of_columns = torch.cat((v.cos(), v.sin()), dim=-1)  # B M 4waves
    return of_rows @ of_columns[:, None].transpose(2, 3)


def _sizes_gradient(grad: Tensor, rows: Tensor, columns: Tensor, frequencies: Tensor) -> Tensor:
    """H x 2 width: what the weights of the last two numbers of a pair receive."""
    u, v = _phases(rows, frequencies)[:, None], _phases(columns, frequencies)
    read = grad @ torch.cat((v.cos(), v.sin()), dim=-1)[:, None]  # B H N 4waves
    cosines, sines = read.chunk(2, dim=-1)
    of_a = (u.sin() * cosines - u.cos() * sines).sum((0, 2))
    of_c = (u.cos() * cosines + u.sin() * sines).sum((0, 2))
    return torch.stack((of_a, of_c), dim=-1).flatten(1)
