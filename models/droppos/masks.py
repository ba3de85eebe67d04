"""Which patches are removed, which positions are dropped, and which patches others may read from.

Drawing is kept apart from applying: ``MaskSampler.draw`` is the only random step and takes its own generator;
``masks_from_noise`` is a plain function of the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Masking:
    """How much is hidden from the network.

    DropPos at its defaults; MP3 with ``mask_ratio=0, position_mask_ratio=1`` and a ``context_ratio`` below 1.

    Attributes:
        mask_ratio: Share of the patches that are removed before the encoder, in [0, 1).
        position_mask_ratio: Share of the *visible* patches whose position is dropped, in [0, 1].
        context_ratio: Share of the visible patches that serve as keys and values of attention, in (0, 1]; the others
            read from them and are read by none.

    Raises:
        ValueError: A ratio lies outside its range.
    """

    mask_ratio: float = 0.75
    position_mask_ratio: float = 0.75
    context_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio={self.mask_ratio:g} must lie in [0, 1)")
        if not 0 <= self.position_mask_ratio <= 1:
            raise ValueError(f"position_mask_ratio={self.position_mask_ratio:g} must lie in [0, 1]")
        if not 0 < self.context_ratio <= 1:
            raise ValueError(f"context_ratio={self.context_ratio:g} must lie in (0, 1]")

    def counts(self, patches: int) -> MaskCounts:
        """Count what an image of N patches keeps.

        Raises:
            ValueError: No patch would stay visible, or none would be context.
        """
        visible = _share(patches, 1 - self.mask_ratio)
        if visible == 0:
            raise ValueError(f"mask_ratio={self.mask_ratio:g} leaves none of {patches} patches visible; lower it")
        context = _share(visible, self.context_ratio)
        if context == 0:
            raise ValueError(
                f"context_ratio={self.context_ratio:g} leaves none of {visible} patches as context; raise it"
            )
        return MaskCounts(visible, _share(visible, 1 - self.position_mask_ratio), context)


class MaskCounts(NamedTuple):
    """Patches of one image, the same for every image."""

    visible: int
    """V: not removed."""
    positioned: int
    """K: visible and with their position; the positions of the other V - K are dropped."""
    context: int
    """M: visible and read from in attention."""


class Masks(NamedTuple):
    """What is hidden of each image of a batch, applied by the network."""

    visible: Tensor
    """B x V, int64: index of each visible patch in reading order of the grid, in the order in which it enters."""
    dropped: Tensor
    """B x V, bool: True where the visible patch loses its position."""
    context: Tensor | None
    """B x M, int64: places among the visible patches that attention reads from; None where it does from all."""

    def to(self, device: torch.device | str) -> Masks:
        """The same on a device."""
        context = None if self.context is None else self.context.to(device)
        return Masks(self.visible.to(device), self.dropped.to(device), context)


def _share(length: int, share: float) -> int:
    # Rounded down as published; the small addend keeps 50 * (1 - 0.9) from becoming 4.
    return int(length * share + 1e-6)


def masks_from_noise(
    masking: Masking, patch_noise: Tensor, position_noise: Tensor, context_noise: Tensor | None = None
) -> Masks:
    """Hide what has the most noise.

    Args:
        masking: How much is hidden.
        patch_noise: B x N; the V patches of least noise stay, in ascending order of it.
        position_noise: B x V; the K visible patches of least noise keep their positions.
        context_noise: B x V; the M visible patches of least noise are context. None unless ``context_ratio`` < 1.

    Raises:
        ValueError: As for :meth:`Masking.counts`, or the noise has another shape or is missing.
    """
    counts = masking.counts(patch_noise.shape[1])
    for noise in (position_noise, context_noise):
        if noise is not None and noise.shape != (len(patch_noise), counts.visible):
            raise ValueError(f"noise of shape {tuple(noise.shape)} for {counts.visible} visible patches an image")
    if masking.context_ratio < 1 and context_noise is None:
        raise ValueError(f"context_ratio={masking.context_ratio:g} needs noise that decides which patches are context")
    context = None
    if context_noise is not None:
        context = context_noise.argsort(dim=1, stable=True)[:, : counts.context]
    return Masks(
        visible=patch_noise.argsort(dim=1, stable=True)[:, : counts.visible],
        dropped=_ranks(position_noise) >= counts.positioned,
        context=context,
    )


def _ranks(noise: Tensor) -> Tensor:
    return noise.argsort(dim=1, stable=True).argsort(dim=1)


class MaskSampler:
    """Draws masks from a generator of its own.

    The noise is drawn on the CPU and ranked where the masks are used, so that a seed means the same masks everywhere.

    Args:
        masking: How much is hidden.
        patches: N, patches of an image.
        seed: Seeds the generator; give each process its own.

    Raises:
        ValueError: As for :meth:`Masking.counts`.
    """

    def __init__(self, masking: Masking, patches: int, *, seed: int) -> None:
        self.masking, self.patches = masking, patches
        self.counts = masking.counts(patches)
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, batch_size: int, device: torch.device | str = "cpu") -> Masks:
        """Draw the masks of one batch of B images."""
        return self._masks(self._noise(batch_size), device)

    def draw_each(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> Masks:
        """Draw the masks of B images, those of each image from a seed of its own, whatever else is in the batch."""
        rows = []
        for seed in seeds:
            self.generator.manual_seed(seed)
            rows.append(self._noise(1))
        return self._masks([torch.cat(kind) for kind in zip(*rows, strict=True)], device)

    def _noise(self, batch_size: int) -> list[Tensor]:
        """Noise of patches, of positions and, where there is less context than visible patches, of context."""
        context = [self.counts.visible] if self.masking.context_ratio < 1 else []
        # Not in the default type, which Lightning changes for 16-bit weights.
        return [
            torch.rand(batch_size, length, generator=self.generator, dtype=torch.float32)
            for length in (self.patches, self.counts.visible, *context)
        ]

    def _masks(self, noise: Sequence[Tensor], device: torch.device | str) -> Masks:
        return masks_from_noise(self.masking, *(kind.to(device, non_blocking=True) for kind in noise))
