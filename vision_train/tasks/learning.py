"""Whether a classifier has learnt anything: its training loss and its result beside what guessing reaches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NOTHING_LEARNT = 0.1
"""Share of the way from guessing to the lowest possible loss below which a network counts as having learnt nothing."""
LUCK = 1.645
"""Standard errors by which guessing exceeds its expectation in one of twenty cases."""


class Learnt:
    """Losses of one epoch of training, and the targets that they were taken against.

    Args:
        classes: C.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._samples = 0
        self._sums: list[Tensor] = []

    def add(self, loss: Tensor, targets: Tensor) -> None:
        """Note the loss of a batch.

        Args:
            loss: Averaged over its B samples.
            targets: B labels, or B x C: what the loss multiplies the negative logarithms of the probabilities by.
        """
        size = len(targets)
        if targets.ndim == 1:
            known = torch.zeros(self.classes, device=targets.device).index_add_(
                0, targets, torch.ones(size, device=targets.device)
            )
            lowest = torch.zeros(1, device=targets.device)
        else:
            rows = targets.detach().float()
            known = rows.sum(dim=0)
            shares = rows / rows.sum(dim=1, keepdim=True)
            lowest = (rows.sum(dim=1) * torch.special.entr(shares).sum(dim=1)).sum()[None]
        noted = torch.cat([loss.detach().float()[None] * size, lowest, known])
        # Summed in place, on the device: nothing is waited for, and a thousand classes cost no more than a batch.
        self._sums = [noted if not self._sums else self._sums[0] + noted]
        self._samples += size

    @property
    def is_empty(self) -> bool:
        """Whether no loss was noted, as where a run that had been trained was resumed for its test alone."""
        return not self._samples

    @property
    def loss(self) -> float:
        """Mean loss of the epoch; NaN before the first sample."""
        return self._noted()[0].item()

    @property
    def lowest(self) -> float:
        """Loss of predicting the very targets: 0 for plain labels, more where they are smoothed or mixed."""
        return self._noted()[1].item()

    @property
    def loss_of_guessing(self) -> float:
        """Loss of predicting the mean target whatever the sample: ln C for plain labels of equally frequent classes."""
        mean = self._noted()[2:]
        return (mean.sum() * torch.special.entr(mean / mean.sum()).sum()).item()

    @property
    def little(self) -> bool:
        """Whether the loss is about that of guessing. Of one class alone nothing can be learnt."""
        possible = self.loss_of_guessing - self.lowest
        return possible > 0 and self.loss_of_guessing - self.loss < NOTHING_LEARNT * possible

    def _noted(self) -> Tensor:
        if not self._sums:
            return torch.full((self.classes + 2,), math.nan, dtype=torch.float64)
        return self._sums[0].cpu().double() / self._samples


def guessing(labels: Tensor) -> tuple[float, float]:
    """The balanced accuracy of guessing, and what it seldom exceeds by luck: NaN of fewer than two classes.

    Whoever names one class, or each as often as he likes, gets one of K right on average; of ``n_k`` samples of each
    class the share that he gets varies by ``sqrt(sum_k p (1 - p) / n_k) / K``, with p = 1 / K.

    Args:
        labels: N, int64.
    """
    counts = labels.unique(return_counts=True)[1].double()
    if len(counts) < 2:
        return math.nan, math.nan
    chance = 1 / len(counts)
    error = (chance * (1 - chance) / counts).sum().sqrt().item() / len(counts)
    return chance, chance + LUCK * error


def lucky_auroc(labels: Tensor) -> float:
    """The mean AUROC of each class against the rest that scores of no meaning seldom exceed by luck.

    Ranks at random have 0.5 on average, with a variance of ``(N + 1) / (12 n_k (N - n_k))`` for a class of ``n_k``
    (Mann and Whitney); classes that vary together cannot vary more than by the mean of their deviations.

    Args:
        labels: N, int64; NaN of fewer than two classes.
    """
    counts, total = labels.unique(return_counts=True)[1].double(), len(labels)
    if len(counts) < 2:
        return math.nan
    return 0.5 + LUCK * ((total + 1) / (12 * counts * (total - counts))).sqrt().mean().item()
