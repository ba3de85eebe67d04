"""Several scores of each sample of a pool become one, by which pseudo labels are selected.

ACTRESS publishes that faithfulness, robustness and confidence select together. How they are joined, their weights and
their floors are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from vision_train.statistics.metrics import macro_auroc

Scores = Mapping[str, Tensor]
"""By name, N numbers, in the same order of the samples."""

PAPER_LIKE = {"faithfulness": 1.0, "robustness": 1.0, "confidence": 1.0}
"""All three published scores; that they weigh the same is our choice."""
BOX_WEIGHTS = {"faithfulness": 1.0, "robustness": 1.0}
"""Our default where a label is a box: in our prototypes these two ranked right pseudo labels highest, and the
confidence of a plain quantised head was no better than chance. It may enter by :func:`calibrated_weights`."""
CLASS_WEIGHTS = {"confidence": 1.0}
"""Our default where a label is a class: in our prototypes neither robustness nor its product with confidence ranked
better."""
CALIBRATED = "calibrated"
"""Asks for weights by :func:`calibrated_weights`."""
FLOORS = {"robustness": 0.5}
"""Our default of :func:`passing`."""
SMALLEST_BOX = 1e-4
"""Our default floor of ``area``, the share of the image that a box covers, where samples have one box."""

DIGITS = 12
"""Means of ranks are rounded to so many decimals: rounding errors would else put samples in order that are equal."""


def weights_of(asked: str | Sequence[str], default: Mapping[str, float]) -> dict[str, float]:
    """Weights of the scores that ``semi.rounds.scores`` asks for.

    Args:
        asked: ``default``, ``paper_like``, ``calibrated``, or names of scores, which weigh the same. What is calibrated
            weighs the same until it is: see :func:`calibrated_weights`.
        default: What ``default`` means where labels are of this type.
    """
    if asked == "default":
        return dict(default)
    return dict(PAPER_LIKE) if asked in ("paper_like", CALIBRATED) else dict.fromkeys(asked, 1.0)


def combine(scores: Scores, weights: Mapping[str, float]) -> Tensor:
    """One score of each sample, from those that have a weight.

    It is the geometric mean of their ranks over this pool, so that scores of different spread count alike:
    ``r_i = rank_i / N``, and ``exp(sum w log r / sum w)``.

    Args:
        scores: Those without a weight are left aside.
        weights: By name of the score, not negative.

    Returns:
        N, float64; NaN where a score with a weight above 0 is not finite.

    Raises:
        ValueError: A weight has no score or is negative, or no weight is above 0.
    """
    _check(scores, weights)
    used = {name: weight for name, weight in weights.items() if weight}
    if not used or min(used.values()) < 0:
        raise ValueError(f"weights of scores are at least 0, and one is above it; got {dict(weights)}")
    shares = torch.tensor(list(used.values()), dtype=torch.float64)[:, None]
    ranks = torch.stack([ranked(scores[name]) for name in used])  # scores x N
    return (shares * ranks.log()).sum(dim=0).div(shares.sum()).exp().round(decimals=DIGITS)


def ranked(scores: Tensor) -> Tensor:
    """Rank of each score from the lowest, divided by their number: in (0, 1], equal scores share the mean rank.

    Args:
        scores: N; those that are not finite have no rank, and do not count.

    Returns:
        N, float64; NaN for those without a rank.
    """
    values = _finite(scores)
    ranks = torch.from_numpy(np.asarray(rankdata(values.numpy(), nan_policy="omit"), dtype=np.float64))
    return ranks / values.isfinite().sum()


def passing(scores: Scores, floors: Mapping[str, float]) -> Tensor:
    """Which samples may be selected at all: raw scores that are finite and no lower than their floor.

    Args:
        scores: A quantity that only has a floor, such as the area of a box, stands among them.
        floors: By name of the score.

    Returns:
        N, True for those that pass.

    Raises:
        ValueError: A floor has no score, or there are no scores.
    """
    _check(scores, floors)
    if not scores:
        raise ValueError("samples pass by their scores, and there is none")
    finite = torch.stack([_finite(score).isfinite() for score in scores.values()]).all(dim=0)
    above = [_finite(scores[name]) >= floor for name, floor in floors.items()]
    return torch.stack([finite, *above]).all(dim=0)


def calibrated_weights(scores: Scores, right: Tensor) -> dict[str, float]:
    """Weights by how well each score tells right predictions from wrong ones: ``max(0, 2 AUROC - 1)`` (our choice).

    Args:
        scores: Of labelled samples that training has not seen.
        right: N, True where the prediction is right (for boxes, IoU of 0.5 or more with the truth).

    Returns:
        By name, in [0, 1]: 0 for a score that ranks no better than chance.

    Raises:
        ValueError: All predictions that a score is known of are right, or all are wrong.
    """
    weights = {}
    for name, score in scores.items():
        values = _finite(score)
        known, truth = values[values.isfinite()], right.cpu()[values.isfinite()].long().tolist()
        if len(set(truth)) < 2:
            which = "right" if any(truth) else "wrong"
            raise ValueError(
                f"`{name}` cannot be calibrated: all {len(truth)} predictions that it is known of are {which}"
            )
        # With two classes either of them has the same area.
        columns = {"label": truth, "probabilities": torch.stack([-known, known], dim=1).tolist()}
        weights[name] = max(0.0, 2 * float(macro_auroc(columns, np.ones((1, len(truth))))[0]) - 1)
    return weights


def _check(scores: Scores, wanted: Mapping[str, float]) -> None:
    if missing := wanted.keys() - scores.keys():
        raise ValueError(
            f"there is no score called {', '.join(sorted(missing))}; there are {', '.join(sorted(scores))}"
        )
    if len({len(score) for score in scores.values()}) > 1:
        raise ValueError(f"scores are of as many samples; got { {name: len(score) for name, score in scores.items()} }")


def _finite(score: Tensor) -> Tensor:
    """On the CPU in float64, with NaN for what is not finite."""
    values = score.detach().cpu().double()
    return values.where(values.isfinite(), torch.nan)
