"""What evaluation keeps of every image with numbers, and the metrics made from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torchmetrics.functional.regression import mean_absolute_error, pearson_corrcoef, r2_score, spearman_corrcoef

from vision_train.artefacts import Artefact, Curve, Items, Metric, Recomputed, Table
from vision_train.statistics import Columns, statistic
from vision_train.tasks.learning import LUCK
from vision_train.tasks.scores import Scores

LOSS = Metric("loss", "loss", better="less", lowest=0.0)
MAE = Metric("mae", "mean absolute error", better="less", lowest=0.0, shown="always")
RMSE = Metric("rmse", "root mean squared error", better="less", lowest=0.0)
R2 = Metric("r2", "R²", highest=1.0)
PEARSON = Metric("pearson", "Pearson's correlation", lowest=-1.0, highest=1.0)
SPEARMAN = Metric("spearman", "Spearman's rank correlation", lowest=-1.0, highest=1.0)
METRICS = (LOSS, MAE, RMSE, R2, PEARSON, SPEARMAN)
MOST_POINTS = 1000
"""Images in a scatter plot; of more, so many are taken evenly."""
MOST_CHARTS = 4
"""Numbers that have a plot each."""

Pairs = tuple[np.ndarray, np.ndarray]
"""Measured and predicted numbers of one kind, N each."""


def fields(targets: int) -> tuple[str, ...]:
    """Columns of the numbers of each image: its loss, D measured numbers and D predicted ones."""
    return ("loss", *(f"true_{d}" for d in range(targets)), *(f"predicted_{d}" for d in range(targets)))


def measured_and_predicted(scores: Scores) -> tuple[Tensor, Tensor]:
    """N x D each, in the units of the data."""
    count = (len(scores.fields) - 1) // 2
    return scores.rows[:, 1 : 1 + count].contiguous(), scores.rows[:, 1 + count :].contiguous()


def metrics(scores: Scores) -> dict[str, float]:
    """Loss, errors in the units of the data and correlations; of several numbers the mean over them."""
    true, predicted = measured_and_predicted(scores)
    few = len(true) < 2 or not predicted.isfinite().all()
    return {
        LOSS.name: scores.column("loss").mean().item(),
        MAE.name: mean_absolute_error(predicted, true).item(),
        RMSE.name: (predicted - true).square().mean(dim=0).sqrt().mean().item(),
        R2.name: math.nan if few else _over_targets(r2_score, true, predicted),
        PEARSON.name: math.nan if few else _over_targets(pearson_corrcoef, true, predicted),
        SPEARMAN.name: math.nan if few else _over_targets(spearman_corrcoef, true, predicted),
    }


def _over_targets(metric: Callable[..., Tensor], true: Tensor, predicted: Tensor) -> float:
    """The mean over D numbers; NaN where one of them, or its prediction, never varies."""
    pairs = list(zip(true.T, predicted.T, strict=True))
    if any(float(of_one.std()) == 0 for pair in pairs for of_one in pair):
        return math.nan
    return float(np.mean([metric(guess.contiguous(), truth.contiguous()).item() for truth, guess in pairs]))


def is_guessing(scores: Scores, measured: Mapping[str, float]) -> bool:
    """Whether images in any other order would rank as well: 1 in 20 does by luck, with 1 / sqrt(N - 1) of deviation."""
    if (count := len(scores.ids)) < 3:
        return False
    return not measured[SPEARMAN.name] > LUCK / math.sqrt(count - 1)


def artefacts(
    scores: Scores, names: Sequence[str], split: str, measured: Mapping[str, float], warnings: Sequence[str]
) -> list[Artefact]:
    """Size and metrics, a table of the numbers, predicted against measured, and every image of a split.

    Args:
        scores: Numbers of all images.
        names: D names.
        split: Name of the split.
        measured: Its metrics.
        warnings: Sentences for the reader of the result.
    """
    true, predicted = measured_and_predicted(scores)
    said = " ".join(f"Warning: {text}." for text in warnings)
    rows: list[list[Any]] = [["images", len(scores.ids)], *([name, value] for name, value in measured.items())]
    charts = [
        _scatter(name, true[:, d], predicted[:, d], split, d)
        for d, name in enumerate(names[:MOST_CHARTS])
        if predicted[:, d].isfinite().all()
    ]
    return [
        Table(f"{split}_summary", f"Result on {split}", ["metric", "value"], rows, said),
        _per_target(true, predicted, names, split),
        *charts,
        items(scores, split),
    ]


def _per_target(true: Tensor, predicted: Tensor, names: Sequence[str], split: str) -> Table:
    rows: list[list[Any]] = []
    for d, name in enumerate(names):
        errors = predicted[:, d] - true[:, d]
        guess = (true[:, d] - true[:, d].mean()).abs().mean().item()
        rows.append(
            [name, errors.abs().mean().item(), errors.square().mean().sqrt().item(), errors.mean().item(), guess]
        )
    columns = ["number", "mean absolute error", "root mean squared error", "mean error", "error of the mean"]
    note = (
        "Mean error: above 0, predictions are too high. Error of the mean: what predicting the same for all would have."
    )
    return Table(f"{split}_per_target", f"Errors on {split}", columns, rows, note)


def _scatter(name: str, true: Tensor, predicted: Tensor, split: str, number: int) -> Curve:
    kept = np.unique(np.linspace(0, len(true) - 1, min(len(true), MOST_POINTS)).round().astype(int))
    ends = [min(true.min().item(), predicted.min().item()), max(true.max().item(), predicted.max().item())]
    some = f" {len(kept):,} of {len(true):,} images." if len(kept) < len(true) else ""
    return Curve(
        f"{split}_scatter_{number}",
        f"{name} on {split}, predicted by measured",
        x_label=f"measured {name}",
        y_label=f"predicted {name}",
        x=ends,
        lines={"no error": ends, "images": predicted[kept].tolist()},
        x_of={"images": true[kept].tolist()},
        scattered=["images"],
        same_range=True,
        note=f"Above the line predictions are too high.{some}",
    )


def items(scores: Scores, split: str) -> Items:
    """Every image's results; those that are not finite, as of a network that diverged, are left out."""
    true, predicted = measured_and_predicted(scores)
    if not predicted.isfinite().all() or not len(true):
        return Items(f"{split}_items", scores.ids, {}, scores.group_of_each)
    values = {LOSS.name: scores.column("loss").tolist(), MAE.name: (predicted - true).abs().mean(dim=1).tolist()}
    columns: dict[str, list[Any]] = {"true": true.tolist(), "predicted": predicted.tolist()}
    recomputed = {metric.name: Recomputed(f"regression/{metric.name}") for metric in (RMSE, R2, PEARSON, SPEARMAN)}
    return Items(f"{split}_items", scores.ids, values, scores.group_of_each, columns, recomputed)


def _pairs(columns: Columns) -> list[Pairs]:
    true, predicted = (np.asarray(columns[name], dtype=np.float64) for name in ("true", "predicted"))
    return list(zip(true.T, predicted.T, strict=True))


def _mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means of values (N, or R x N) in each of R resamples."""
    return np.asarray((counts * values).sum(axis=1) / counts.sum(axis=1))


@statistic("regression/rmse")
def rmse(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Root mean squared error, averaged over D numbers.

    Args:
        columns: ``true`` and ``predicted``, D numbers each.
        counts: R x N.
    """
    return np.mean([np.sqrt(_mean((true - guess) ** 2, counts)) for true, guess in _pairs(columns)], axis=0)


@statistic("regression/r2")
def r2(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Share of the variance that is explained, averaged over D numbers; NaN where one does not vary.

    Args:
        columns: As for :func:`rmse`.
        counts: R x N.
    """
    found = []
    for true, guess in _pairs(columns):
        variance = _mean(true**2, counts) - _mean(true, counts) ** 2
        left = _mean((true - guess) ** 2, counts)
        found.append(np.where(variance > 0, 1 - left / np.where(variance > 0, variance, 1), np.nan))
    return np.mean(found, axis=0)


@statistic("regression/pearson")
def pearson(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Correlation, averaged over D numbers; NaN where one, or its prediction, does not vary.

    Args:
        columns: As for :func:`rmse`.
        counts: R x N.
    """
    return np.mean([_correlation(true, guess, counts) for true, guess in _pairs(columns)], axis=0)


@statistic("regression/spearman")
def spearman(columns: Columns, counts: np.ndarray) -> np.ndarray:
    """Correlation of ranks, averaged over D numbers; NaN where one, or its prediction, does not vary.

    Args:
        columns: As for :func:`rmse`.
        counts: R x N.
    """
    pairs = _pairs(columns)
    return np.mean([_correlation(_ranks(true, counts), _ranks(guess, counts), counts) for true, guess in pairs], axis=0)


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rank of each item in each resample, R x N; equal ones share the mean of theirs."""
    distinct, places = np.unique(values, return_inverse=True)
    drawn = np.zeros((len(counts), len(distinct)))
    np.add.at(drawn.T, places, counts.T)
    ranks = np.cumsum(drawn, axis=1) - drawn + (drawn + 1) / 2
    return ranks[:, places]


def _correlation(one: np.ndarray, other: np.ndarray, counts: np.ndarray) -> np.ndarray:
    means = [_mean(each, counts)[:, None] for each in (one, other)]
    first, second = (each - mean for each, mean in zip((one, other), means, strict=True))
    below = np.sqrt(_mean(first**2, counts) * _mean(second**2, counts))
    return np.where(below > 0, _mean(first * second, counts) / np.where(below > 0, below, 1), np.nan)
