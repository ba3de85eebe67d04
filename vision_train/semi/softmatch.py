"""Alignment to a distribution of classes, and SoftMatch's weights (Chen et al., ICLR 2023, arXiv:2301.10921)."""

from __future__ import annotations

import torch
from torch import Tensor

from vision_train.processes import gather_rows
from vision_train.semi.pseudo_labels import PseudoLabels
from vision_train.semi.state import ExponentialMean, QueueMean, RunningState, move

EPSILON = 1e-6


class DistributionAlignment(RunningState):
    """Moves a teacher's probabilities towards a distribution of classes: ``q = norm(p * (u + 1e-6) / (P + 1e-6))``.

    Use it alone only with a prior that is known: alignment to the uniform distribution harms where classes are not
    equally frequent.

    Args:
        pool: Running mean P of the teacher's probabilities.
        target: u: C shares, or a running mean of the network's probabilities for labelled images.
    """

    target: Tensor | ExponentialMean | QueueMean

    def __init__(self, pool: ExponentialMean | QueueMean, target: Tensor | ExponentialMean | QueueMean) -> None:
        super().__init__()
        self.pool = pool
        if isinstance(target, Tensor):
            self.register_buffer("target", target.float().clone(), persistent=False)
        else:
            self.target = target

    def update(self, probabilities: Tensor, labelled: Tensor | None = None) -> None:
        """Move the running means by a batch.

        Args:
            probabilities: Of unlabelled images, U C.
            labelled: Of labelled images, B C; needed where the target is a running mean.

        Raises:
            ValueError: They are missing.
        """
        self.pool.update(probabilities)
        if not isinstance(self.target, Tensor):
            if labelled is None:
                raise ValueError("alignment to the labelled images takes their probabilities")
            self.target.update(labelled)

    def forward(self, probabilities: Tensor) -> Tensor:
        """Align probabilities (U C) by the means as they are."""
        target = self.target if isinstance(self.target, Tensor) else self.target.value
        aligned = probabilities * (target + EPSILON) / (self.pool.value + EPSILON)
        return aligned / aligned.sum(dim=-1, keepdim=True)


class SoftMatch(RunningState):
    """Weighs every image by how far its confidence lies below the mean, on a truncated Gaussian.

    With q the aligned probabilities, mu and v the running mean (from 1/C) and variance (from 1) of max q:
    ``weight = exp(-min(max q - mu, 0)^2 * n^2 / (2 v))``. Labels are the most probable classes before alignment. A
    batch moves the averages first and is weighed by them afterwards.

    Args:
        classes: C.
        momentum: Share of the old averages kept at each step.
        sigmas: n.
        labelled_target: Whether probabilities are aligned to their running mean over labelled images instead of to the
            uniform distribution.
    """

    mean: Tensor
    """mu, a scalar."""
    variance: Tensor
    """v, a scalar."""

    def __init__(
        self, classes: int, momentum: float = 0.999, *, sigmas: float = 2, labelled_target: bool = False
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.sigmas = sigmas
        uniform = torch.full((classes,), 1 / classes, dtype=torch.float32)
        self.register_buffer("mean", uniform[0].clone())
        self.register_buffer("variance", torch.ones((), dtype=torch.float32))
        self.alignment = DistributionAlignment(
            ExponentialMean(momentum, classes=classes),
            ExponentialMean(momentum, start=uniform) if labelled_target else uniform,
        )

    def forward(self, probabilities: Tensor, labelled: Tensor | None = None) -> PseudoLabels:
        """Move the averages by a batch, then label it.

        Args:
            probabilities: Of the teacher on weak views, U C, float32.
            labelled: Of the network for labelled images, B C; needed with ``labelled_target``.
        """
        self.alignment.update(probabilities, labelled)
        self._update(self.alignment(probabilities))
        return PseudoLabels(probabilities.argmax(dim=-1), self.weights(probabilities))

    @torch.no_grad()
    def weights(self, probabilities: Tensor) -> Tensor:
        """Weigh images (U C) by the averages as they are."""
        below = (self.alignment(probabilities).amax(dim=-1) - self.mean).clamp(max=0)
        return (-(below**2) * self.sigmas**2 / (2 * self.variance)).exp().nan_to_num(nan=0.0)

    @torch.no_grad()
    def _update(self, aligned: Tensor) -> None:
        confidence = gather_rows(aligned.amax(dim=-1))
        usable = confidence.isfinite().all()
        move(self.mean, confidence.mean(), self.momentum, usable)
        if len(confidence) > 1:  # one image has no unbiased variance
            move(self.variance, confidence.var(), self.momentum, usable)
