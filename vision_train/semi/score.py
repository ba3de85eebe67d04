"""How far a prediction for an unlabelled sample may be trusted: confidence, robustness and faithfulness.

ACTRESS (arXiv 2407.03251) publishes that pseudo labels are selected by faithfulness, robustness and confidence, and
that the confidence is that of a quantised detection head. Its formulas were not available: every equation below is our
own reading, and each docstring says so.

Every score is a number in [0, 1] for each of N samples, float64, and depends on that sample alone, so that processes
may share out a pool. A prediction that is not finite has a score of NaN, and NaN is never selected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou

from augment.geometry import Affine, clip_boxes, invert, map_boxes
from models.detr.boxes import generalized_iou

_EPSILON = 1e-6
"""Keeps the faithfulness of a box that covers the whole image at 0."""


class KeptBoxes(NamedTuple):
    """The boxes of one image that a detector's score cut has left."""

    boxes: Tensor
    """n x 4: left, top, right, bottom in pixels of the original image."""
    classes: Tensor
    """n class indices."""


def class_confidence(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Largest of the mean probabilities over views, and its class, which is the pseudo label.

    Our choice: among the scores that we compared on digits it ranked right pseudo labels highest.

    Args:
        probabilities: V x N x C, of V views of each sample.

    Returns:
        Confidence (N), and class index (N); of equal classes the first.

    Raises:
        ValueError: These are no probabilities.
    """
    confidence, label = _checked(probabilities).mean(dim=0).max(dim=-1)
    return confidence, label


def class_robustness(probabilities: Tensor) -> Tensor:
    """``1 - JS / log C`` with ``JS = H(mean p) - mean H(p)`` over views, the Jensen-Shannon divergence (our choice).

    It is 1 where all views agree, however unsure they are.

    Args:
        probabilities: V x N x C, of V views of each sample.

    Returns:
        N.

    Raises:
        ValueError: These are no probabilities, or there is a single class.
    """
    views = _checked(probabilities)
    if views.shape[-1] < 2:
        raise ValueError("views of a sample can disagree only where there are two classes or more")
    divergence = _entropy(views.mean(dim=0)) - _entropy(views).mean(dim=0)
    return (1 - divergence / math.log(views.shape[-1])).clamp(0, 1)


def most_attended(attention: Tensor, share: float = 0.2) -> Tensor:
    """Choose the patches to hide for :func:`class_faithfulness` (our choice: a fifth of them).

    Args:
        attention: N x P, of each sample to its patches.
        share: Of the patches, in (0, 1); rounded, at least one patch.

    Returns:
        N x P, True for the patches with most attention; of equal ones the first.
    """
    count = max(1, round(share * attention.shape[1]))
    places = attention.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(attention, dtype=torch.bool).scatter_(1, places, True)


def class_faithfulness(whole: Tensor, hidden: Tensor) -> Tensor:
    """By how much the probability of the predicted class falls without the most attended patches (our choice).

    Args:
        whole: N x C, probabilities of whole images.
        hidden: N x C, of the same images without the patches of :func:`most_attended`.

    Returns:
        N; 0 where the probability rises.

    Raises:
        ValueError: These are no probabilities.
    """
    before, after = _checked(whole), _checked(hidden)
    predicted = before.argmax(dim=-1, keepdim=True)
    return (before - after).gather(-1, predicted).squeeze(-1).clamp(0, 1)


def in_original_pixels(boxes: Tensor, affine: Affine, size: tuple[int, int]) -> Tensor:
    """Bring boxes of a view back to the original image, in float64: corners first, then the image clips them.

    Boxes of different views are compared nowhere else: shares of one padded frame are not those of another.

    Args:
        boxes: n x 4, left, top, right, bottom in pixels of the view.
        affine: Maps pixels of the original image to those of the view.
        size: Height and width of the original image.

    Returns:
        n x 4, on the CPU.
    """
    corners = map_boxes(boxes.detach().cpu().double().numpy(), invert(affine))
    return torch.from_numpy(clip_boxes(corners, size)[0])


def box_robustness(reference: Tensor, views: Tensor) -> Tensor:
    """``R = mean_v IoU(b0, b_v)``, where a sample has one box (our reading of the published word).

    Args:
        reference: N x 4, ``b0``, as :func:`in_original_pixels` returns it.
        views: V x N x 4, the boxes of other views of the same samples, brought back likewise.

    Returns:
        N; boxes without an area agree with none.
    """
    return generalized_iou(reference.double(), views.double())[0].mean(dim=0)


def detection_robustness(reference: Sequence[KeptBoxes], views: Sequence[Sequence[KeptBoxes]]) -> Tensor:
    """Mean over views of ``2 sum IoU(matched) / (n0 + n_v)``: F1 in which a match counts as much as it overlaps.

    Boxes of one class are matched one to one so that the sum is largest. Two views without any box agree. Our choice.

    Args:
        reference: N images.
        views: V views of the N images.

    Returns:
        N.
    """
    shares = [[_matched_f1(*pair) for pair in zip(reference, view, strict=True)] for view in views]
    return torch.tensor(shares, dtype=torch.float64).mean(dim=0)


def _matched_f1(first: KeptBoxes, second: KeptBoxes) -> float:
    count = len(first.boxes) + len(second.boxes)
    if not count:
        return 1.0
    overlaps = box_iou(first.boxes.double(), second.boxes.double()) * (first.classes[:, None] == second.classes)
    if not (first.boxes.isfinite().all() and second.boxes.isfinite().all()):
        return math.nan
    places = linear_sum_assignment(overlaps.cpu().numpy(), maximize=True)
    return 2 * float(overlaps.cpu().numpy()[places].sum()) / count


def detection_confidence(scores: Sequence[Tensor]) -> Tensor:
    """Mean score of the kept boxes of each image (our choice).

    Args:
        scores: N images: n scores in [0, 1].

    Returns:
        N; NaN for an image without a box, which says nothing that could be learned.
    """
    return torch.stack([each.double().mean() for each in scores])


def covered_share(boxes: Tensor, grid: tuple[int, int], size: tuple[float, float]) -> Tensor:
    """Share of each cell that the boxes cover together: ``o_n`` of :func:`box_faithfulness`.

    Args:
        boxes: n x 4, of one image: left, top, right, bottom in pixels of the view that the cells divide.
        grid: Rows and columns of cells.
        size: Height and width of that view, padding included.

    Returns:
        Cells, row by row, float64, each exact: what two boxes share counts once.
    """
    boxes = boxes.double()
    if not boxes.isfinite().all():
        return boxes.new_full((grid[0] * grid[1],), math.nan)
    # The edges of cells and boxes divide the view into pieces that are covered or not.
    across, columns = _pieces(boxes[:, 0], boxes[:, 2], grid[1], size[1])
    down, rows = _pieces(boxes[:, 1], boxes[:, 3], grid[0], size[0])
    covered = (down.T @ across > 0).double()
    return (rows @ covered @ columns.T).flatten()


def _pieces(first: Tensor, last: Tensor, cells: int, length: float) -> tuple[Tensor, Tensor]:
    """Divide one side of a view at all edges of cells and boxes.

    Returns:
        Which pieces each box covers (n x pieces, 0 or 1), and how much of each cell a piece is (cells x pieces).
    """
    edges = torch.linspace(0, length, cells + 1, dtype=torch.float64, device=first.device)
    cuts = torch.cat([edges, first.clamp(0, length), last.clamp(0, length)]).unique()
    middles = (cuts[1:] + cuts[:-1]) / 2
    covers = (first[:, None] <= middles) & (middles < last[:, None])
    cell = torch.bucketize(middles, edges[1:-1], right=True)
    members = torch.arange(cells, device=first.device)[:, None] == cell
    return covers.double(), members * (cuts.diff() * cells / length)


def box_faithfulness(attention: Tensor, covered: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """``F = clamp((m - s) / (1 - s + 1e-6), 0, 1)`` with ``m = sum a_n o_n`` and ``s = sum o_n / N``.

    ``a`` is the attention over the cells that show the image, made to sum to 1; ``o_n`` the share of a cell that the
    prediction covers. Subtracting ``s`` removes the advantage of large boxes: one that covers the whole image has a
    score of 0. Our reading: attention that falls into the box is known to go with its IoU (AttBalance, of the first
    author of ACTRESS).

    Args:
        attention: N x cells, not negative.
        covered: N x cells, from :func:`covered_share`.
        padding_mask: N x cells, True for cells that show padding; None for none.

    Returns:
        N; NaN where all attention lies on padding.
    """
    shown = torch.ones_like(attention, dtype=torch.bool) if padding_mask is None else ~padding_mask
    weights, parts = attention.double().where(shown, 0), covered.double().where(shown, 0)
    inside = (weights / weights.sum(dim=-1, keepdim=True) * parts).sum(dim=-1)
    size = parts.sum(dim=-1) / shown.sum(dim=-1)
    return ((inside - size) / (1 - size + _EPSILON)).clamp(0, 1)


def _checked(probabilities: Tensor) -> Tensor:
    """The probabilities in float64."""
    if ((probabilities < 0) | (probabilities > 1)).any():
        raise ValueError("probabilities lie in [0, 1]; these do not, as logits would not")
    return probabilities.double()


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)
