"""How far the confidence of a classifier can be taken for the chance that it is right."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vision_train.artefacts import Curve

BINS = 15
"""As in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017."""
CERTAIN = 1.96
"""Standard errors beyond which a difference is no chance, at 95 %."""


def reliability(confidence: Tensor, correct: Tensor, split: str, noun: str) -> Curve:
    """Accuracy by confidence, how many samples are behind each point, and in words which way the network errs.

    Args:
        confidence: N, in [0, 1]; what is not finite is left out.
        correct: N, 0 or 1.
        split: What was tested.
        noun: What the samples are, in the plural.
    """
    known = confidence.isfinite()  # the confidence of a network that diverged is NaN
    confidence, correct = confidence[known], correct[known]
    bins = (confidence * BINS).long().clamp_max(BINS - 1)
    count = torch.bincount(bins, minlength=BINS)
    filled = count > 0
    mean_confidence = torch.bincount(bins, confidence, BINS)[filled] / count[filled]
    accuracy = torch.bincount(bins, correct, BINS)[filled] / count[filled]
    grid = f"Bars: {noun} in each of {BINS} bins of equal width; empty bins are left out."
    return Curve(
        f"{split}_reliability",
        f"Reliability on {split}",
        x_label="mean confidence",
        y_label="accuracy",
        x=mean_confidence.tolist(),
        lines={"observed": accuracy.tolist(), "perfectly calibrated": [0.0, 1.0]},
        note=f"{direction(confidence, correct)} {grid}",
        x_of={"perfectly calibrated": [0.0, 1.0]},
        counts=count[filled].tolist(),
    )


def direction(confidence: Tensor, correct: Tensor) -> str:
    """Whether a network is too sure or too unsure, in a sentence, where the samples can tell."""
    if not len(confidence):
        return "No confidence is finite."
    gaps = confidence.double() - correct.double()
    gap, error = gaps.mean().item(), gaps.std().item() / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
    said = f"mean confidence {100 * confidence.mean():.1f} %, accuracy {100 * correct.double().mean():.1f} %"
    if not abs(gap) > CERTAIN * error:
        return f"Neither too sure nor too unsure on average: {said}."
    where = "its points lie below the diagonal" if gap > 0 else "its points lie above the diagonal"
    return f"The network is {'too sure' if gap > 0 else 'too unsure'}: {said}; {where}."
