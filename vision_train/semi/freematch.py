"""FreeMatch: thresholds that follow the teacher's confidence (Wang et al., ICLR 2023, arXiv:2205.07246)."""

from __future__ import annotations

import torch
from torch import Tensor

from vision_train.processes import gather_rows, sum_over_processes
from vision_train.semi.pseudo_labels import PseudoLabels
from vision_train.semi.state import RunningState, move

QUANTILE = 0.8
HIGHEST = 0.95


class FreeMatch(RunningState):
    """Accepts an image whose confidence reaches a running threshold, which is lower for classes that are rarely sure.

    Three running averages start at 1/C: t, the mean confidence; P, the mean probability of each class; H, the share of
    each class among the most probable ones. ``weight = 1[max p >= t * P[c] / max P]``. As in the official code a batch
    moves the averages first and is weighed by them afterwards.

    A batch in which the teacher returns values that are not finite leaves the averages as they are.

    Args:
        classes: C.
        momentum: Share of the old averages kept at each step: 0.999 in the official recipes of 200,000 steps, 0.99 for
            runs of fewer than 5,000.
        quantile: Whether t follows the 0.8 quantile of the confidence in a batch instead of its mean.
        clip: Whether t is kept from rising above 0.95.
    """

    threshold: Tensor
    """t, a scalar."""
    mean_probabilities: Tensor
    """P, C values."""
    label_shares: Tensor
    """H, C values."""

    def __init__(self, classes: int, momentum: float = 0.999, *, quantile: bool = False, clip: bool = False) -> None:
        super().__init__()
        self.momentum = momentum
        self.quantile = quantile
        self.clip = clip
        uniform = torch.full((classes,), 1 / classes, dtype=torch.float32)
        self.register_buffer("threshold", uniform[0].clone())
        self.register_buffer("mean_probabilities", uniform)
        self.register_buffer("label_shares", uniform.clone())

    def forward(self, probabilities: Tensor) -> PseudoLabels:
        """Move the averages by a batch, then label it.

        Args:
            probabilities: Of the teacher on weak views, U C, float32. The averages see those of all processes, each of
                which has as many.
        """
        self.update(probabilities)
        return PseudoLabels(probabilities.argmax(dim=-1), self.weights(probabilities))

    @torch.no_grad()
    def update(self, probabilities: Tensor) -> None:
        """Move the averages by a batch."""
        everyone = gather_rows(probabilities)
        confidence, labels = everyone.max(dim=-1)
        shares = torch.zeros_like(everyone).scatter_(1, labels[:, None], 1).mean(dim=0)
        usable = everyone.isfinite().all()
        move(
            self.threshold, confidence.quantile(QUANTILE) if self.quantile else confidence.mean(), self.momentum, usable
        )
        if self.clip:
            self.threshold.clamp_(max=HIGHEST)
        move(self.mean_probabilities, everyone.mean(dim=0), self.momentum, usable)
        move(self.label_shares, shares, self.momentum, usable)

    @torch.no_grad()
    def weights(self, probabilities: Tensor) -> Tensor:
        """Weigh images (U C) by the averages as they are, such as those of validation that the rule is asked about."""
        confidence, labels = probabilities.max(dim=-1)
        relative = self.mean_probabilities / self.mean_probabilities.max()
        return (confidence >= self.threshold * relative[labels]).float()


def fairness_loss(logits: Tensor, accepted: Tensor, mean_probabilities: Tensor, label_shares: Tensor) -> Tensor:
    """FreeMatch's self-adaptive fairness: student predictions should spread as the running averages do.

    Over accepted images, with q the softmax of the logits and h the share of each class among their most probable ones:
    ``a = norm(P / H)``, ``b = norm(mean q / h)``, ``L = sum_c a_c * log(b_c + 1e-12)``, where a division by 0 gives 0
    and norm divides by the sum. The gradient flows through q alone. A class that no accepted image has adds the
    constant ``-27.6 * a_c``: the value says little, and is not to be capped or compared.

    All processes take part, also those that accept nothing. The mean is over the accepted images of all of them.

    Args:
        logits: Of the student on strong views, U C.
        accepted: Weights of the images, U; those above 0 are accepted.
        mean_probabilities: P, C.
        label_shares: H, C.

    Returns:
        Scalar, float32; 0, with a gradient of 0, where nothing is accepted.
    """
    probabilities, taken = logits.float().softmax(dim=-1), (accepted > 0).float()[:, None]
    counts = torch.zeros_like(probabilities).scatter_(1, probabilities.argmax(dim=-1, keepdim=True), 1)
    count, of_class = sum_over_processes(taken.sum()), sum_over_processes((counts * taken).sum(dim=0))
    divisor = count.clamp(min=1)
    mean = sum_over_processes((probabilities * taken).sum(dim=0)) / divisor
    wanted = mean_probabilities * _inverse(label_shares)
    wanted = wanted / wanted.sum().clamp(min=1e-12)
    found = mean * _inverse(of_class / divisor)
    # The most probable of C classes has at least 1/C, so that the sum is never below that where anything is accepted.
    found = found / found.sum().clamp(min=0.5 / len(found))
    return (wanted * (found + 1e-12).log()).sum() * (count > 0)


def _inverse(values: Tensor) -> Tensor:
    """1 / values, and 0 where they are 0."""
    return torch.where(values > 0, 1 / values.clamp(min=torch.finfo(values.dtype).tiny), torch.zeros_like(values))
