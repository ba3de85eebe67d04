"""What every grounding network says of a batch."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class GroundingOutput(NamedTuple):
    """One box for each of B pairs of an image and an expression."""

    boxes: Tensor
    """B x 4, float32: centre x, centre y, width, height, each in [0, 1] of the padded frame."""
    bin_logits: Tensor | None
    """B x 4 x K, float32: scores of the K bins of each coordinate; None without a quantised head."""
    attention: Tensor | None
    """B x N, float32, detached: what the answer attends to, of the N cells of the grid, row by row. Padding has 0, and
    rows sum to at most 1, since words are attended to as well. None unless it was asked for."""
    grid: tuple[int, int]
    """Rows and columns of cells."""
    padding: Tensor
    """B x N, True for cells of padding; for none where a network attends to padding too."""
    earlier_boxes: Tensor | None = None
    """S x B x 4: boxes of the stages before the last one, which learn as well; None for a network without stages."""
