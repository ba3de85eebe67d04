"""What validation keeps of every image, and the metrics made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from models.droppos.network import PositionOutput
from models.droppos.scores import PositionScores, score_positions
from vision_train.artefacts import Artefact, Items, Metric, Recomputed, Table
from vision_train.tasks.scores import Scores

METRICS = (
    Metric("acc1", "positions right", "percent"),
    Metric("acc1_weighted", "positions right, weighted", "percent"),
    Metric("hard_ce", "hard cross-entropy", better="less", lowest=0.0),
    Metric("grid_distance", "mean grid distance, in patches", better="less", lowest=0.0),
)
PIXEL_LOSS = Metric("pixel_loss", "pixel loss", better="less", lowest=0.0)
PROBE_ACCURACY = Metric("probe_accuracy", "accuracy of the linear probe", "percent", is_proportion=True, shown="always")


def fields(pixels: bool) -> tuple[str, ...]:
    """Columns of the numbers of each image; with ``pixels`` also the loss of its reconstructed pixels."""
    return (*PositionScores._fields, *([PIXEL_LOSS.name] if pixels else []))


def score_batch(output: PositionOutput, grid: tuple[int, int]) -> Tensor:
    """Numbers of B images, columns as in :func:`fields`.

    Args:
        output: Output of the network.
        grid: Rows and columns of patches.
    """
    columns = [*score_positions(output, grid)]
    if output.pixel_losses is not None:
        columns.append(output.pixel_losses)
    return torch.stack(columns, dim=1)


def positions(scores: Scores) -> PositionScores:
    """The columns that count positions, N each."""
    return PositionScores(*(scores.column(name) for name in PositionScores._fields))


def metrics(scores: Scores) -> dict[str, float]:
    """The metrics of a split, without its prefix."""
    means = positions(scores).means()
    values = {metric.name: means[metric.name].item() for metric in METRICS}
    if PIXEL_LOSS.name in scores.fields:
        values[PIXEL_LOSS.name] = scores.column(PIXEL_LOSS.name).mean().item()
    return values


def artefacts(scores: Scores, split: str, measured: Mapping[str, float], grid: tuple[int, int]) -> list[Artefact]:
    """Size and metrics of a split, and every image's own numbers.

    Args:
        scores: Numbers of all images.
        split: Name of the split.
        measured: Its metrics.
        grid: Rows and columns of patches.
    """
    found = positions(scores)
    counts = [["images", len(scores.ids)], ["dropped positions", int(found.tokens.sum())]]
    rows = [[name, value] for name, value in measured.items()]
    places = grid[0] * grid[1]
    note = (
        f"Positions right: share of dropped positions that are found; guessing finds 1 in {places}. Hard "
        f"cross-entropy: of the true position, in nats; guessing has {math.log(places):.2f}. Grid "
        "distance: how far off they are."
    )
    tokens = found.tokens.clamp_min(1)
    items = {
        "acc1": (found.correct / tokens).tolist(),
        "hard_ce": (found.cross_entropy / tokens).tolist(),
        "grid_distance": (found.distance / tokens).tolist(),
    }
    if PIXEL_LOSS.name in scores.fields:
        items[PIXEL_LOSS.name] = scores.column(PIXEL_LOSS.name).tolist()
    return [
        Table(f"{split}_summary", f"Result on {split}", ["metric", "value"], [*counts, *rows], note),
        Items(
            f"{split}_items",
            scores.ids,
            items,
            scores.group_of_each,
            {"numerator": found.weighted_correct.tolist(), "denominator": found.weight.tolist()},
            {"acc1_weighted": Recomputed("ratio_of_sums")},
        ),
    ]
