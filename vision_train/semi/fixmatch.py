"""FixMatch: pseudo-labels above one fixed threshold (Sohn et al., NeurIPS 2020, arXiv:2001.07685)."""

from __future__ import annotations

import math

from torch import Tensor

from vision_train.semi.pseudo_labels import PseudoLabels

MARGIN = 0.02
"""How far below the confidence of a fully trained network a threshold has to stay."""
ROUNDING = 1e-9


class FixMatch:
    """Accepts an image whose most probable class has at least a fixed probability: ``weight = 1[max p >= tau]``.

    Args:
        threshold: tau.
        soft: Whether targets are the probabilities themselves instead of the most probable class. The official code
            does not sharpen them: its temperature has no effect.
    """

    def __init__(self, threshold: float = 0.95, *, soft: bool = False) -> None:
        self.threshold = threshold
        self.soft = soft

    def __call__(self, probabilities: Tensor) -> PseudoLabels:
        """Label a batch.

        Args:
            probabilities: Of the teacher on weak views, U C, float32.
        """
        confidence, labels = probabilities.max(dim=-1)
        weights = (confidence >= self.threshold).float()
        return PseudoLabels(probabilities if self.soft else labels, weights)


def highest_threshold(label_smoothing: float, classes: int) -> float:
    """The highest fixed threshold that a network trained with label smoothing can be expected to pass.

    With smoothing eps, the optimum of cross-entropy gives its class the probability ``1 - eps + eps / C``. Above that a
    threshold accepts nothing during the whole run.
    """
    if label_smoothing == 0:
        return 1.0
    return 1 - label_smoothing + label_smoothing / classes - MARGIN


def check_threshold(threshold: float, label_smoothing: float, classes: int) -> None:
    """Refuse a fixed threshold that label smoothing puts out of reach.

    Raises:
        ValueError: With the highest threshold that is possible.
    """
    highest = highest_threshold(label_smoothing, classes)
    if threshold > highest + ROUNDING:
        possible = math.floor(1000 * (highest + ROUNDING)) / 1000
        raise ValueError(
            f"with label smoothing {label_smoothing:g} and {classes} classes no image reaches the threshold "
            f"{threshold:g}, and none would be accepted; lower the threshold to {possible:g} or less, or "
            "lower the label smoothing"
        )
