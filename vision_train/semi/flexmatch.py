"""FlexMatch: thresholds by how much of the pool a class has learnt (Zhang et al., NeurIPS 2021, arXiv:2110.08263)."""

from __future__ import annotations

import torch
from torch import Tensor

from vision_train.processes import gather_rows
from vision_train.semi.pseudo_labels import PseudoLabels
from vision_train.semi.state import RunningState


class FlexMatch(RunningState):
    """Lowers a fixed threshold for classes that few images of the pool have passed it with.

    A table keeps for each image of the pool the class with which it last passed the threshold, -1 for none. With k_c
    images of class c in it and k_0 of none, ``beta_c = k_c / max(max k, k_0)``, without warm-up ``k_c / max k``, and
    ``weight = 1[max p >= tau * beta_c / (2 - beta_c)]``. A batch is weighed before it moves the table. While few images
    have passed, beta is near 0 and nearly everything is accepted.

    Args:
        pool: Number of images in the pool.
        classes: C.
        threshold: tau.
        warmup: Whether images that have passed with no class lower the thresholds of all.
    """

    table: Tensor
    """One class index for each image of the pool, int64."""
    learnt: Tensor
    """beta, C values."""

    def __init__(self, pool: int, classes: int, threshold: float = 0.95, *, warmup: bool = True) -> None:
        super().__init__()
        self.threshold = threshold
        self.warmup = warmup
        self.register_buffer("table", torch.full((pool,), -1))
        self.register_buffer("learnt", torch.zeros(classes, dtype=torch.float32))

    def forward(self, probabilities: Tensor, places: Tensor) -> PseudoLabels:
        """Label a batch, then move the table by it.

        Args:
            probabilities: Of the teacher on weak views, U C, float32.
            places: Of the images in the pool, U int64.
        """
        weights = self.weights(probabilities)
        self._update(gather_rows(probabilities), gather_rows(places))
        return PseudoLabels(probabilities.argmax(dim=-1), weights)

    @torch.no_grad()
    def weights(self, probabilities: Tensor) -> Tensor:
        """Weigh images (U C) by the table as it is."""
        confidence, labels = probabilities.max(dim=-1)
        learnt = self.learnt[labels]
        return (confidence >= self.threshold * (learnt / (2 - learnt))).float()

    @torch.no_grad()
    def _update(self, probabilities: Tensor, places: Tensor) -> None:
        confidence, labels = probabilities.max(dim=-1)
        # An image may come twice in a batch. The later one counts, also where assignment would have no fixed order.
        order = torch.where(confidence >= self.threshold, torch.arange(len(places), device=places.device), -1)
        last = torch.full_like(self.table, -1).scatter_reduce_(0, places, order, "amax")
        self.table.copy_(torch.where(last >= 0, labels[last.clamp(min=0)], self.table))
        counts = torch.zeros(len(self.learnt) + 1, dtype=torch.long, device=places.device)
        counts.index_add_(0, self.table + 1, torch.ones_like(self.table))
        unused, of_class = counts[0], counts[1:]
        most = torch.maximum(of_class.max(), unused) if self.warmup else of_class.max()
        # As in the official code, nothing changes while one entry fills the whole table.
        moved = of_class / most.clamp(min=1)
        self.learnt.copy_(torch.where(counts.max() < len(self.table), moved, self.learnt))
