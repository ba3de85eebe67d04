"""Stochastic top-k instance masking (STKIM): some of the instances that attract most attention are hidden in training.

Drawing is kept apart from applying: ``MaskSampler.draw`` is the only random step and takes its own generator;
``InstanceMasking.hidden`` is a plain function of the scores and the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Hide = Callable[[Tensor], Tensor | None]
"""From the scores of a bag, S x N, to those that are hidden: bool of the same shape, or None for none."""


@dataclass(frozen=True)
class InstanceMasking:
    """How many of the most attended instances are hidden, in each branch and head on its own.

    Keep ``top_k * drop_ratio`` below the number of instances that carry a bag's label: where fewer do, all of them may
    be hidden at once, and training collapses.

    Attributes:
        top_k: The k highest scores are candidates; 0 hides nothing.
        drop_ratio: Share p of the candidates that is hidden, in [0, 1]. At least one instance always stays.
        mode: ``exact`` hides int(k p) of the k candidates, as the released code does; ``bernoulli`` hides each with
            probability p, as the paper says.
        k_max_fraction: Candidates are at most this share of the bag, in (0, 1]; None for no such limit.

    Raises:
        ValueError: A value lies outside its range.
    """

    top_k: int = 10
    drop_ratio: float = 0.6
    mode: Literal["exact", "bernoulli"] = "exact"
    k_max_fraction: float | None = None

    def __post_init__(self) -> None:
        if self.top_k < 0:
            raise ValueError(f"top_k={self.top_k} must not be negative")
        if not 0 <= self.drop_ratio <= 1:
            raise ValueError(f"drop_ratio={self.drop_ratio:g} must lie in [0, 1]")
        if self.mode not in ("exact", "bernoulli"):
            raise ValueError(f"mode={self.mode!r} is unknown; it is exact or bernoulli")
        if self.k_max_fraction is not None and not 0 < self.k_max_fraction <= 1:
            raise ValueError(f"k_max_fraction={self.k_max_fraction:g} must lie in (0, 1]")

    def candidates(self, instances: int) -> int:
        """Count the candidates among N instances."""
        candidates = min(self.top_k, instances)
        if self.k_max_fraction is None:
            return candidates
        # The small addend keeps 100 * 0.29 from becoming 28.
        return min(candidates, int(instances * self.k_max_fraction + 1e-6))

    def hidden(self, scores: Tensor, noise: Tensor) -> Tensor | None:
        """Say which entries of a bag's scores are hidden.

        Args:
            scores: S x N.
            noise: S x K, uniform in [0, 1), K at least the number of candidates: one value for each, in the order of
                descending score; further columns are ignored. The least noise hides.

        Returns:
            S x N, bool, at most N - 1 True in a row; None where nothing can be hidden.

        Raises:
            ValueError: The noise has too few values.
        """
        instances = scores.shape[1]
        candidates = self.candidates(instances)
        # In double precision and truncated, as published: int(100 * 0.57) is 56.
        most = min(int(candidates * self.drop_ratio), instances - 1)
        if candidates == 0 or (most == 0 and self.mode == "exact"):
            return None
        if noise.shape[0] != scores.shape[0] or noise.shape[1] < candidates:
            raise ValueError(f"noise of shape {tuple(noise.shape)} for {candidates} candidates in {len(scores)} rows")
        noise = noise[:, :candidates]
        ranked = scores.detach().topk(candidates, dim=1).indices
        nothing = torch.zeros_like(scores, dtype=torch.bool)
        if self.mode == "exact":
            return nothing.scatter_(1, ranked.gather(1, noise.argsort(dim=1, stable=True)[:, :most]), True)
        chosen = noise < self.drop_ratio
        if candidates == instances:
            chosen &= noise < noise.amax(dim=1, keepdim=True)
        return nothing.scatter_(1, ranked, chosen)


class MaskDraw(NamedTuple):
    """Noise for a batch, and what it means."""

    masking: InstanceMasking
    noise: Tensor
    """B x T x K, or B x T x H x K; see :meth:`InstanceMasking.hidden`."""

    def per_bag(self, map_shape: tuple[int, ...]) -> list[Hide]:
        """Give each bag its own function from scores to hidden entries.

        Raises:
            ValueError: The noise is for another number of branches or heads.
        """
        if self.noise.shape[1:-1] != map_shape:
            raise ValueError(f"noise of shape {tuple(self.noise.shape)} for attention of shape {map_shape} a bag")
        return [partial(self.masking.hidden, noise=rows) for rows in self.noise.flatten(1, -2)]


class MaskSampler:
    """Draws noise from a generator of its own, on the CPU, so that a seed means the same everywhere.

    Args:
        masking: What is hidden.
        seed: Seeds the generator; give each process its own.
    """

    def __init__(self, masking: InstanceMasking, *, seed: int) -> None:
        self.masking = masking
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, bags: int, map_shape: tuple[int, ...], device: torch.device | str = "cpu") -> MaskDraw:
        """Draw for a batch of bags; ``map_shape`` is the network's."""
        noise = torch.rand(bags, *map_shape, self.masking.top_k, generator=self.generator)
        return MaskDraw(self.masking, noise.to(device, non_blocking=True))
