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
"""Sines held at a time, and as many cosines and phases: 1 MiB each, which stays in a cache."""
_NUMBERS_IN_A_PROGRAM = 2**24
"""Those of an image at a time in a traced program, in which each repetition is written out: one for 1000 boxes."""


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

    def forward(self, rows: Tensor, columns: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Relate boxes to boxes.

        Args:
            rows: B x N x 4, centre and sides; of the queries of attention. Their sides are the units of distance.
            columns: B x M x 4, of its keys.
            blocked: Broadcasts to B x H x N x M, True for pairs that get minus infinity; None blocks none.

        Returns:
            B x H x N x M, float32, at least 0: added to the scores of attention.
        """
        projection = cast(nn.Conv2d, self.pos_proj[0])
        frequencies = self.scale / wave_lengths(self.width, self.temperature, rows.device)
        with torch.autocast(rows.device.type, enabled=False):  # a factor of 100 stands before the sine
            weight, bias = projection.weight.flatten(1).float(), cast(Tensor, projection.bias).float()
            given = rows.detach().float(), columns.detach().float(), weight, bias, frequencies, blocked
            if torch.is_grad_enabled() and (weight.requires_grad or bias.requires_grad):
                relation: Tensor = _Relation.apply(*given)
                return relation
            return _relate(*given)


class _Relation(torch.autograd.Function):
    @staticmethod
    def forward(*given: Any) -> Tensor:
        return _relate(*given)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        rows, columns, _, _, frequencies, _ = inputs
        ctx.save_for_backward(rows, columns, frequencies, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, Tensor, None, None]:
        rows, columns, frequencies, output = ctx.saved_tensors
        heads, waves = grad.shape[1], len(frequencies)
        by_place, by_bias = grad.new_zeros(heads, 4 * waves), grad.new_zeros(heads)
        of_columns = _embedded_sizes(columns, frequencies)
        read = grad.new_empty(heads, *rows.shape[:2], 4 * waves)
        for images, part, embedded in _embedded_distances(rows, columns, frequencies):
            here = images, slice(None), part
            # As the backward pass of a ReLU; a blocked pair is below zero as well.
            felt = torch.ops.aten.threshold_backward(grad[here], output[here], 0).transpose(0, 1)  # H b n M
            flat = felt.flatten(1)
            by_place += flat @ embedded.T
            by_bias += flat.sum(1)
            read[:, images, part] = felt @ of_columns[images]
        sines, cosines = by_place.chunk(2, dim=1)
        by_place = torch.stack((sines, cosines), dim=-1).flatten(1)
        return None, None, torch.cat((by_place, _by_size(read, rows, frequencies)), dim=1), by_bias, None, None


def _relate(
    rows: Tensor, columns: Tensor, weight: Tensor, bias: Tensor, frequencies: Tensor, blocked: Tensor | None
) -> Tensor:
    half = weight.shape[1] // 2
    relation = _of_sizes(rows, columns, weight[:, half:], frequencies)  # H B N M
    relation += bias[:, None, None, None]
    by_place = torch.cat((weight[:, 0:half:2], weight[:, 1:half:2]), dim=1)
    distances = _embedded_distances(rows, columns, frequencies)
    if torch.compiler.is_compiling():  # to write into a part would copy the whole in a program
        parts = [(by_place @ each).view_as(relation[:, :, part]) for _, part, each in distances]
        relation += torch.cat(parts, dim=2)
    else:
        for images, part, embedded in distances:
            here = relation[:, images, part]
            here += (by_place @ embedded).view_as(here)
    relation = relation.relu_().transpose(0, 1)
    return relation if blocked is None else relation.masked_fill_(blocked, -torch.inf)


def _embedded_distances(rows: Tensor, columns: Tensor, frequencies: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Embed the distances in x and y, in sides of the row's box, some pairs at a time.

    Yields:
        Images, rows, and the sines and then the cosines of their pairs, 4 waves x b n M, so that heads are a product of
        matrices. They are overwritten by the next ones: fresh memory for each costs as much as the sines.
    """
    waves, of_row = 2 * len(frequencies), 2 * len(frequencies) * columns.shape[1]
    if torch.compiler.is_compiling():  # a traced program takes any number of images: steps cannot depend on it
        for part in _steps(rows.shape[1], _NUMBERS_IN_A_PROGRAM // of_row):
            phases = _distances(rows[:, part], columns)[:, None] * frequencies[:, None]
            yield slice(None), part, torch.cat((phases.sin(), phases.cos())).flatten(0, 1)
        return
    held = rows.new_empty(0)
    for images, part in _blocks(rows.shape[0], rows.shape[1], of_row):
        distances = _distances(rows[images, part], columns[images])
        pairs = distances.shape[1]
        if not len(held):  # no later block is larger
            held = rows.new_empty(3 * waves, pairs)
        phases, sines, cosines = held[:, :pairs].chunk(3)
        torch.mul(distances[:, None], frequencies[:, None], out=phases.view(2, -1, pairs))
        torch.sin(phases, out=sines)
        torch.cos(phases, out=cosines)
        yield images, part, held[waves:, :pairs]


def _distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Logarithms of the distances in x and y, 2 x B N M."""
    centre, sides = rows.permute(2, 0, 1)[..., None].chunk(2)  # 2 B N 1
    to = columns[..., :2].permute(2, 0, 1)[:, :, None]  # 2 B 1 M
    return torch.log1p((centre - to).abs() / (sides + _EPSILON)).flatten(1)


def _blocks(batch: int, rows: int, of_row: int) -> Iterator[tuple[slice, slice]]:
    """Images and rows that are related at a time: several images whole, or some rows of one."""
    images = max(1, _NUMBERS_AT_ONCE // max(1, rows * of_row))
    for several in _steps(batch, images):
        for part in _steps(rows, rows if images > 1 else _NUMBERS_AT_ONCE // max(1, of_row)):
            yield several, part


def _steps(count: int, step: int) -> Iterator[slice]:
    """Slices of at most ``step``, but of one at least."""
    step = max(1, step)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _phases(boxes: Tensor, frequencies: Tensor) -> Tensor:
    """Phases of the logarithms of a box's sides, B x N x 2 waves: those of the width, then those of the height."""
    return (torch.log(boxes[..., 2:] + _EPSILON)[..., None] * frequencies).flatten(-2)


def _embedded_sizes(columns: Tensor, frequencies: Tensor) -> Tensor:
    """Cosines and then sines of the phases of each column, B x M x 4 waves."""
    phases = _phases(columns, frequencies)
    return torch.cat((phases.cos(), phases.sin()), dim=-1)


def _of_sizes(rows: Tensor, columns: Tensor, weight: Tensor, frequencies: Tensor) -> Tensor:
    """The share of widths and heights: H x B x N x M.

    For phases u of a row and v of a column, a sin(u - v) + c cos(u - v) is the sum of (a sin u + c cos u) cos v and
    (c sin u - a cos u) sin v.
    """
    u = _phases(rows, frequencies)
    a, c = weight[:, None, None, 0::2], weight[:, None, None, 1::2]  # H 1 1 2waves
    of_rows = torch.cat((a * u.sin() + c * u.cos(), c * u.sin() - a * u.cos()), dim=-1)  # H B N 4waves
    return of_rows @ _embedded_sizes(columns, frequencies).transpose(1, 2)


def _by_size(read: Tensor, rows: Tensor, frequencies: Tensor) -> Tensor:
    """What the weights of the last two numbers of a pair receive, H x 4 waves.

    Args:
        read: H x B x N x 4 waves, the embedded columns of each row, weighted by the gradient.
        rows: B x N x 4.
        frequencies: Of the waves.
    """
    u = _phases(rows, frequencies)
    cosines, sines = read.chunk(2, dim=-1)
    of_a = (u.sin() * cosines - u.cos() * sines).sum((1, 2))
    of_c = (u.cos() * cosines + u.sin() * sines).sum((1, 2))
    return torch.stack((of_a, of_c), dim=-1).flatten(1)
