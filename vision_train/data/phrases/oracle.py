"""How right pseudo-boxes are, by boxes that no training has read: to study methods with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torchvision.ops import box_iou

from vision_train.data.box_labels import all_box_labels
from vision_train.data.corners import Corners
from vision_train.errors import UserError
from vision_train.semi.box_labels import BoxLabel
from vision_train.semi.health import separation
from vision_train.wording import count_of, percent

RIGHT = 0.5
"""IoU from which on a box is right."""


class OfScore(NamedTuple):
    """What a score knows of the boxes."""

    auroc: float
    """How well the score tells right boxes from wrong ones; NaN where there is nothing to tell apart."""
    correlation: float
    """How far scores and IoUs put the boxes in the same order (Spearman); NaN where one of them is always the same."""
    undefined: str = ""
    """Why the first is NaN, in words."""
    top_accuracy: float = float("nan")
    """Share of right ones among the fifth of the boxes with the highest scores; NaN where all scores are the same."""


class OfPhase(NamedTuple):
    """How right the boxes of a pool are."""

    boxes: int
    accuracy: float
    """Share of right ones among all boxes."""
    kept: int
    kept_accuracy: float
    """The same of those that were learnt from; NaN of none."""
    scores: dict[str, OfScore]


def judge(file: Path, truths: Mapping[str, Corners]) -> OfPhase:
    """Compare the boxes of a file with true ones.

    Args:
        file: As a run wrote it between phases.
        truths: Id of an expression -> left, top, right, bottom in pixels of the original.

    Raises:
        UserError: The file cannot be read, or true boxes are not known.
    """
    labels = [label for label in all_box_labels(file) if label.boxes]
    if unknown := [label.id for label in labels if label.id not in truths]:
        raise UserError(f"{file}: no true box of {unknown[0]} is known; this needs data.unlabelled=rest")
    if not labels:
        raise UserError(f"{file}: holds no box")
    found, true = (torch.tensor(each, dtype=torch.float64) for each in _pairs(labels, truths))
    ious = box_iou(found, true).diagonal().numpy()
    right, kept = ious >= RIGHT, np.array([label.kept for label in labels])
    names = list(dict.fromkeys(name for label in labels for name in label.scores))
    scores = {name: np.array([label.scores.get(name, np.nan) for label in labels]) for name in names}
    return OfPhase(
        len(labels),
        float(right.mean()),
        int(kept.sum()),
        float(right[kept].mean()) if kept.any() else float("nan"),
        {name: _of_score(values, ious) for name, values in scores.items()},
    )


def _pairs(labels: Sequence[BoxLabel], truths: Mapping[str, Corners]) -> tuple[list[Corners], list[Corners]]:
    return [label.boxes[0].corners for label in labels], [truths[label.id] for label in labels]


def _of_score(values: NDArray[np.float64], ious: NDArray[np.float64]) -> OfScore:
    known = np.isfinite(values)
    values, ious = values[known], ious[known]
    right = ious >= RIGHT
    if not len(values):
        return OfScore(float("nan"), float("nan"), "no box has it")
    if not np.ptp(values):
        return OfScore(float("nan"), float("nan"), "it is the same for all boxes")
    correlation = float(spearmanr(values, ious).statistic) if np.ptp(ious) else float("nan")
    top = float(right[np.argsort(-values, kind="stable")[: math.ceil(len(values) / 5)]].mean())
    if right.all() or not right.any():
        why = f"{'all boxes' if right.any() else 'no boxes'} with it are right"
        return OfScore(float("nan"), correlation, why, top)
    auroc = separation(torch.from_numpy(values[right]), torch.from_numpy(values[~right]))
    return OfScore(auroc, correlation, top_accuracy=top)


def table(phase: str, found: OfPhase) -> str:
    """What was found of a phase, in lines."""
    of_kept = f"{percent(found.kept_accuracy, 1)} of the {found.kept:,} that were learnt from"
    learnt = of_kept if found.kept else "none of them was learnt from"
    boxes = count_of(found.boxes, "boxes")
    lines = [f"phase {phase}: {percent(found.accuracy, 1)} of {boxes} are right (IoU {RIGHT}), and {learnt}"]
    width = max(map(len, found.scores), default=0)
    return "\n".join([*lines, *(f"  {name:{width}}  {_in_words(each)}" for name, each in found.scores.items())])


def _in_words(score: OfScore) -> str:
    auroc, correlation = (
        "is not defined" if math.isnan(each) else f"{each:.2f}" for each in (score.auroc, score.correlation)
    )
    why = f" ({score.undefined})" if score.undefined else ""
    top = "" if math.isnan(score.top_accuracy) else f"; {percent(score.top_accuracy, 1)} right in its highest fifth"
    return f"AUROC {auroc}{why}, rank correlation with IoU {correlation}{top}"
