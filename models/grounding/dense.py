"""A visual branch that says of each cell what covers its middle, and where the edges of that lie.

It is how the branch is trained before there are expressions, on images with boxes: the part that training as a DETR
plays for published networks. That a place belongs to the smallest box that covers it, and says where the four edges
lie, is FCOS (Tian et al., ICCV 2019). Ours are the rest: edges are said in the frame and not as seen from the cell, one
map, a class for nothing in place of a focal loss, the distance of edges, no centreness, and a cell for every box,
however low or narrow. Edges in the frame are what a network for expressions has to say; its layers add positions to
queries and keys alone, so that tokens which know nothing of their place cannot say it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.detr.boxes import generalized_iou, to_corners
from models.grounding.visual import VisualBranch

IGNORED = -100
"""Class of cells that do not count."""


class DenseOutput(NamedTuple):
    """What is said of each of N cells, row by row."""

    logits: Tensor
    """B x N x (C + 1), float32: scores of the classes; the last one is that nothing covers the middle."""
    edges: Tensor
    """B x N x 4, float32: left, top, right and bottom of what covers the middle, as shares of the frame."""
    padding: Tensor
    """B x N, True for cells of padding."""
    grid: tuple[int, int]
    """Rows and columns of cells."""


class DenseDetector(nn.Module):
    """A visual branch with heads that see one cell each.

    The heads are single layers, so that all that they say is in the tokens, which another network reads.

    Args:
        visual: Sees.
        classes: Their number, C.
    """

    def __init__(self, visual: VisualBranch, classes: int) -> None:
        super().__init__()
        self.visual = visual
        self.class_head = nn.Linear(visual.dim, classes)
        self.nothing_head = nn.Linear(visual.dim, 1)
        self.edge_head = nn.Linear(visual.dim, 4)

    def forward(self, images: Tensor, padding_mask: Tensor) -> DenseOutput:
        """Say what covers the middle of each cell.

        Args:
            images: B x 3 x H x W, normalised, zeros on padding.
            padding_mask: B x H x W, True on padding, wherever it lies.
        """
        seen = self.visual(images, padding_mask)
        logits = torch.cat((self.class_head(seen.tokens), self.nothing_head(seen.tokens)), dim=-1)
        return DenseOutput(logits.float(), self.edge_head(seen.tokens).float(), seen.padding, seen.grid)


class CellTargets(NamedTuple):
    """What should be said of each of N cells."""

    classes: Tensor
    """B x N, int64: the class of what covers the middle, C where nothing does, :data:`IGNORED` where nothing counts."""
    edges: Tensor
    """B x N x 4, float32, as in :class:`DenseOutput`; 0 where nothing covers the middle."""
    covered: Tensor
    """B x N, True where something does."""


def cell_targets(
    boxes: Sequence[Tensor],
    class_ids: Sequence[Tensor],
    ignored: Sequence[Tensor],
    padding: Tensor,
    grid: tuple[int, int],
    nothing: int,
) -> CellTargets:
    """Say what covers the middle of each cell; a pure function.

    A cell belongs to the box that covers its middle, of several to the smallest, and of equal ones to the first. A box
    that covers no middle has the cell that its own middle lies in, unless a smaller one has it.

    Args:
        boxes: B times n x 4: left, top, right, bottom, in cells of the frame.
        class_ids: B times n.
        ignored: B times m x 4, as ``boxes``: a cell whose middle lies in one and in no box does not count.
        padding: B x N, True for cells of padding, which do not count.
        grid: Rows and columns of cells.
        nothing: Class of cells that belong to no box, C.
    """
    middles, corners, regions = cell_middles(grid, padding.device), _stacked(boxes), _stacked(ignored)
    belongs = _covers(corners, middles)
    belongs |= ~belongs.any(dim=-1, keepdim=True) & _holds_middle(corners, grid)
    counts = torch.tensor([len(each) for each in boxes], device=padding.device)
    belongs &= (torch.arange(corners.shape[1], device=padding.device) < counts[:, None])[..., None]
    areas = (corners[..., 2:] - corners[..., :2]).prod(dim=-1, keepdim=True)
    sizes = torch.where(belongs, areas, torch.inf)
    covered, owner = sizes.amin(dim=1).isfinite() & ~padding, sizes.argmin(dim=1)
    uncounted = padding | (_covers(regions, middles).any(dim=1) & ~covered)
    classes = torch.where(covered, _stacked(class_ids).gather(1, owner), nothing).masked_fill(uncounted, IGNORED)
    frame = torch.tensor([grid[1], grid[0]] * 2, device=padding.device)
    edges = (corners / frame).gather(1, owner[..., None].expand(-1, -1, 4))
    return CellTargets(classes, edges.masked_fill(~covered[..., None], 0.0), covered)


def boxes_in_cells(boxes: Sequence[Tensor], padding_mask: Tensor, grid: tuple[int, int]) -> list[Tensor]:
    """Bring boxes from shares of their image to cells of the frame that it lies in.

    Args:
        boxes: B times n x 4: centre x, centre y, width, height as shares of the image without padding.
        padding_mask: B x H x W, True on padding; the rest is a rectangle, wherever it lies.
        grid: Rows and columns of cells that cover the frame.

    Returns:
        B times n x 4: left, top, right, bottom.
    """
    first, length = _rectangles(padding_mask)
    scale = torch.tensor([grid[1] / padding_mask.shape[2], grid[0] / padding_mask.shape[1]], device=first.device)
    corner, sides = first * scale, length * scale
    return [
        to_corners(each) * size.repeat(2) + start.repeat(2)
        for each, start, size in zip(boxes, corner, sides, strict=True)
    ]


def without_needless_padding(images: Tensor, padding_mask: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Cut off, at the right and the bottom of a batch, whole cells that are padding in every image.

    Batches may be padded for networks of a larger stride than this one has.

    Args:
        images: B x 3 x H x W.
        padding_mask: B x H x W, True on padding.
        stride: Height and width of a cell in pixels.
    """
    inside = (~padding_mask).any(dim=0)
    rows, columns = (-(-int(inside.any(dim=axis).nonzero().max() + 1) // stride) * stride for axis in (1, 0))
    return images[..., :rows, :columns], padding_mask[:, :rows, :columns]


def placed_anew(images: Tensor, padding_mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put each image of a batch at a random place of the frame.

    Args:
        images: B x 3 x H x W, zeros on padding.
        padding_mask: B x H x W, True on padding; the rest is a rectangle, wherever it lies.
        generator: On the CPU.
    """
    height, width = padding_mask.shape[1:]
    first, length = (each.tolist() for each in _rectangles(padding_mask))
    moved = []
    for image, mask, (x, y), (columns, rows) in zip(images, padding_mask, first, length, strict=True):
        left, top = (int(torch.randint(gap + 1, (), generator=generator)) for gap in (width - columns, height - rows))
        moved.append([each.roll((top - y, left - x), (-2, -1)) for each in (image, mask)])
    placed, masks = (torch.stack(each) for each in zip(*moved, strict=True))
    return placed, masks


def dense_losses(output: DenseOutput, targets: CellTargets) -> dict[str, Tensor]:
    """Cross-entropy of the cells that count, and summed distance of the four edges of those that something covers.

    Edges are shares of the frame.
    """
    classes = functional.cross_entropy(output.logits.flatten(0, 1), targets.classes.flatten(), reduction="sum")
    counted = (targets.classes != IGNORED).sum().clamp(min=1)
    distance = (output.edges - targets.edges).abs().sum(dim=-1)[targets.covered].sum()
    return {"classes": classes / counted, "edges": distance / targets.covered.sum().clamp(min=1)}


def cell_ious(edges: Tensor, targets: CellTargets) -> Tensor:
    """IoU of the box that each cell says and of the one that covers it, B x N; 0 where nothing does."""
    return generalized_iou(edges, targets.edges)[0].masked_fill(~targets.covered, 0.0)


def cell_middles(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Middles of the cells of a grid, row by row: N x 2, x and y in cells."""
    rows, columns = (torch.arange(count, device=device) + 0.5 for count in grid)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y), dim=-1).flatten(0, 1)


def _rectangles(padding_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where the part without padding begins, and how long it is: B x 2 each, x and y in pixels."""
    inside = [(~padding_mask).any(dim=axis) for axis in (1, 2)]
    first = torch.stack([each.int().argmax(dim=1) for each in inside], dim=1)
    return first, torch.stack([each.sum(dim=1) for each in inside], dim=1)


def _stacked(each: Sequence[Tensor]) -> Tensor:
    """B times n x ... -> B x M x ..., zeros behind the last one of each, M at least 1."""
    padded = nn.utils.rnn.pad_sequence(list(each), batch_first=True)
    return padded if padded.shape[1] else padded.new_zeros(len(padded), 1, *padded.shape[2:])


def _covers(corners: Tensor, middles: Tensor) -> Tensor:
    """B x M x 4 and N x 2 -> B x M x N: whether a box covers a middle, its left and top edges included."""
    first, last = corners[:, :, None, :2], corners[:, :, None, 2:]
    return ((first <= middles) & (middles < last)).all(dim=-1)


def _holds_middle(corners: Tensor, grid: tuple[int, int]) -> Tensor:
    """B x M x 4 -> B x M x N: whether a cell holds the middle of a box."""
    x, y = ((corners[..., :2] + corners[..., 2:]) / 2).floor().long().unbind(dim=-1)
    place = y.clamp(0, grid[0] - 1) * grid[1] + x.clamp(0, grid[1] - 1)
    return functional.one_hot(place, grid[0] * grid[1]).bool()
