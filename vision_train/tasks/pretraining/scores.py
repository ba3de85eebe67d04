"""What validation keeps of every image, and the metrics and pictures made from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.droppos.network import PositionOutput
from models.droppos.scores import PositionScores, score_positions
from vision_train.artefacts import Artefact, Items, Table
from vision_train.processes import gather_by_id

METRICS = ("acc1", "acc1_weighted", "hard_ce", "grid_distance")
"""What validation measures of positions, without a split's prefix."""


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
        self._parts.append((list(ids), torch.stack(columns, dim=1).double().cpu()))

    def gather(self) -> tuple[list[str], PositionScores]:
        """Ids and scores of all images, of all processes, each image once and in order of id."""
        ids, rows = gather_by_id(self._parts)
        if rows is None:
            rows = torch.zeros(0, len(PositionScores._fields), dtype=torch.float64)
        return ids, PositionScores(*rows.unbind(dim=1))


def metrics(scores: PositionScores) -> dict[str, float]:
    """The metrics of a split, without its prefix."""
    means = scores.means()
    return {name: means[name].item() for name in METRICS}


def artefacts(ids: list[str], scores: PositionScores, split: str) -> list[Artefact]:
    """What a split has to show: its size and metrics, and every image's own."""
    counts = [["images", len(ids)], ["dropped positions", int(scores.tokens.sum())]]
    rows = [[name, value] for name, value in metrics(scores).items()]
    tokens = scores.tokens.clamp_min(1)
    items = {
        "acc1": (scores.correct / tokens).tolist(),
        "hard_ce": (scores.cross_entropy / tokens).tolist(),
        "grid_distance": (scores.distance / tokens).tolist(),
    }
    return [
        Table(f"{split}_summary", f"Result on {split}", ["metric", "value"], [*counts, *rows]),
        Items(f"{split}_items", ids, items),
    ]
