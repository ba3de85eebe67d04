"""What validation keeps of every image, and the metrics and pictures made from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.droppos.network import PositionOutput
from models.droppos.scores import PositionScores, score_positions
from vision_train.artefacts import Artefact, Items, Recomputed, Table
from vision_train.processes import gather_by_id

METRICS = ("acc1", "acc1_weighted", "hard_ce", "grid_distance")
"""What validation measures of positions, without a split's prefix."""


class Gathered(NamedTuple):
    """Results of N images, each once and in order of id."""

    ids: list[str]
    positions: PositionScores
    """N each, float64."""
    pixel_losses: Tensor | None
    """N, float64, where pixels are reconstructed."""


class ScoreSheet:
    """Per-image results of one pass over a split.

    Args:
        grid: Rows and columns of patches.
    """

    def __init__(self, grid: tuple[int, int]) -> None:
        self.grid = grid
        self._parts: list[tuple[list[str], Tensor]] = []

    def add(self, ids: Sequence[str], output: PositionOutput) -> None:
        """Score a batch of B images."""
        columns = [*score_positions(output, self.grid)]
        if output.pixel_losses is not None:
            columns.append(output.pixel_losses)
        # In double precision on the CPU: not every accelerator has it.
        self._parts.append((list(ids), torch.stack(columns, dim=1).cpu().double()))

    def gather(self) -> Gathered:
        """Results of all images of all processes."""
        ids, rows = gather_by_id(self._parts)
        positions = len(PositionScores._fields)
        if rows is None:
            rows = torch.zeros(0, positions, dtype=torch.float64)
        columns = rows.unbind(dim=1)
        return Gathered(ids, PositionScores(*columns[:positions]), columns[positions] if columns[positions:] else None)


def metrics(gathered: Gathered) -> dict[str, float]:
    """The metrics of a split, without its prefix."""
    means = gathered.positions.means()
    values = {name: means[name].item() for name in METRICS}
    if gathered.pixel_losses is not None:
        values["pixel_loss"] = gathered.pixel_losses.mean().item()
    return values


def artefacts(gathered: Gathered, split: str, measured: dict[str, float], grid: tuple[int, int]) -> list[Artefact]:
    """What a split has to show: its size and metrics, and every image's own.

    Args:
        gathered: Results of all images.
        split: Their split.
        measured: Its metrics.
        grid: Rows and columns of patches.
    """
    ids, scores, pixel_losses = gathered
    counts = [["images", len(ids)], ["dropped positions", int(scores.tokens.sum())]]
    rows = [[name, value] for name, value in measured.items()]
    places = grid[0] * grid[1]
    note = (
        f"acc1: share of dropped positions that are found; guessing finds 1 in {places}. hard_ce: cross-entropy of "
        f"positions in nats; guessing has {math.log(places):.2f}. grid_distance: how far off they are, in patches."
    )
    tokens = scores.tokens.clamp_min(1)
    items = {
        "acc1": (scores.correct / tokens).tolist(),
        "hard_ce": (scores.cross_entropy / tokens).tolist(),
        "grid_distance": (scores.distance / tokens).tolist(),
    }
    if pixel_losses is not None:
        items["pixel_loss"] = pixel_losses.tolist()
    return [
        Table(f"{split}_summary", f"Result on {split}", ["metric", "value"], [*counts, *rows], note),
        Items(
            f"{split}_items",
            ids,
            items,
            columns={"numerator": scores.weighted_correct.tolist(), "denominator": scores.weight.tolist()},
            recomputed={"acc1_weighted": Recomputed("ratio_of_sums")},
        ),
    ]
