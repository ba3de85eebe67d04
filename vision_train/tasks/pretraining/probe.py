"""A linear probe: how well a linear classifier reads labels off features that it does not change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vision_train.processes import gather_objects, launched_rank
from vision_train.tasks.scores import ScoreTable

WEIGHT_DECAY = 1e-3
"""Weight decay of the classifier, on standardised features."""
MOST_STEPS = 100
"""Steps of the optimiser at the most; the objective is convex, and fewer suffice mostly."""


class ProbeFeatures:
    """Features and labels of the probe's images over one pass, in two parts: to learn from, and to be measured on.

    Args:
        classes: K.
        width: D, features of an image.
    """

    def __init__(self, classes: int, width: int) -> None:
        self.classes = classes
        # The label stands in a last column, exact in float32, so that the row of an image is gathered whole.
        self._parts = [ScoreTable([*map(str, range(width)), "label"], torch.float32) for _ in range(2)]

    def add(self, part: int, ids: Sequence[str], features: Tensor, labels: Tensor) -> None:
        """Note a batch.

        Args:
            part: 0 to learn from, 1 to be measured on.
            ids: B.
            features: B x D.
            labels: B, int64.
        """
        self._parts[part].add(ids, torch.cat([features.float(), labels[:, None].float()], dim=1))

    def accuracy(self, device: torch.device) -> float | None:
        """The probe's accuracy over all processes, the same on each; None where no features were noted.

        Args:
            device: Where the first process fits the probe.
        """
        learnt, measured = (part.gather().rows for part in self._parts)
        if not len(learnt) or not len(measured):
            return None
        value = 0.0
        if launched_rank() == 0:
            train, val = ((rows[:, :-1], rows[:, -1].long()) for rows in (learnt.to(device), measured.to(device)))
            value = probe_accuracy(train, val, self.classes)
        return gather_objects(value)[0]


def fit_probe(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Fit multinomial logistic regression by L-BFGS, from zero, so that nothing about it is random.

    The objective is the mean cross-entropy plus ``WEIGHT_DECAY / 2`` times the squared norm of the weights.

    Args:
        features: N x D, standardised.
        labels: N, int64.
        classes: K.

    Returns:
        Weights (K x D) and biases (K).
    """
    with torch.inference_mode(False), torch.enable_grad():
        features, labels = features.detach().float().clone(), labels.clone()
        weights = torch.zeros(classes, features.shape[1], device=features.device, requires_grad=True)
        biases = torch.zeros(classes, device=features.device, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights, biases], max_iter=MOST_STEPS, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            optimizer.zero_grad()
            error = functional.cross_entropy(functional.linear(features, weights, biases), labels)
            loss = error + WEIGHT_DECAY / 2 * weights.square().sum()
            loss.backward()
            return loss

        optimizer.step(objective)
    return weights.detach(), biases.detach()


def probe_accuracy(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], classes: int) -> float:
    """Share of labels that a linear classifier, fitted on the first images, gets right on the second.

    Args:
        train: Features (N x D) and labels (N, int64) to learn from.
        val: The same to be measured on.
        classes: K.

    Returns:
        NaN where features are not finite, as those of a network that diverged.
    """
    mean, scale = train[0].mean(dim=0), train[0].std(dim=0, unbiased=False).clamp_min(1e-6)
    learnt, measured = ((features - mean) / scale for features, _ in (train, val))
    if not (learnt.isfinite().all() and measured.isfinite().all()):
        return math.nan
    weights, biases = fit_probe(learnt, train[1], classes)
    predicted = functional.linear(measured, weights, biases).argmax(dim=1)
    return int((predicted == val[1]).sum()) / len(predicted)
