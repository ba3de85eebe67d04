"""A linear probe: how well a linear classifier reads labels off features that it does not change."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WEIGHT_DECAY = 1e-3
"""Of the classifier, on standardised features."""
MOST_STEPS = 100
"""Of the optimiser; the objective is convex, and fewer suffice mostly."""


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
    """
    mean, scale = train[0].mean(dim=0), train[0].std(dim=0, unbiased=False).clamp_min(1e-6)
    weights, biases = fit_probe((train[0] - mean) / scale, train[1], classes)
    predicted = functional.linear((val[0] - mean) / scale, weights, biases).argmax(dim=1)
    return (predicted == val[1]).double().mean().item()
