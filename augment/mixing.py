"""Mixing of image pairs within a batch: MixUp and CutMix.

Drawing is kept apart from applying: ``draw_mix`` is the only random step and takes its own generator, ``mix_images``
and ``mix_targets`` are plain functions of its result. Throughout, ``share`` is the share of an image that stays its
own; ``1 - share`` comes from its partner.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, equation 1; Yun et al., "CutMix:
Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019, equations 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """What one batch undergoes.

    Attributes:
        partner: B, int64; sample i is mixed with sample ``partner[i]``.
        share: Share of each image that stays its own, in [0, 1].
        box: Top, bottom, left, right of the rectangle taken from the partner, in pixels; None blends whole images.
    """

    partner: Tensor
    share: float
    box: tuple[int, int, int, int] | None = None


class Mixer:
    """Draws which mixing a batch undergoes, from a generator of its own.

    Args:
        mixup: Share of the batches that are blended.
        cutmix: Share of the batches that receive a pasted rectangle; the rest stays unmixed.
        mixup_alpha: Beta parameter of the blend.
        cutmix_alpha: Beta parameter of the rectangle's area.
        seed: Seeds the generator; give each process its own.
    """

    def __init__(self, *, mixup: float, cutmix: float, mixup_alpha: float, cutmix_alpha: float, seed: int) -> None:
        self.mixup, self.cutmix = mixup, cutmix
        self.mixup_alpha, self.cutmix_alpha = mixup_alpha, cutmix_alpha
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, batch_size: int, height: int, width: int) -> Mix | None:
        """Draw the mix of one batch of B images of H x W pixels; None leaves the batch as it is."""
        choice = self._uniform()
        if choice >= self.mixup + self.cutmix:
            return None
        blend = choice < self.mixup
        share = self._beta(self.mixup_alpha if blend else self.cutmix_alpha)
        partner = torch.randperm(batch_size, generator=self.generator)
        if blend:
            return Mix(partner, share)
        box = self._box(share, height, width)
        top, bottom, left, right = box
        # The rectangle is cut off at the border, so its true area decides, not the drawn one.
        return Mix(partner, 1 - (bottom - top) * (right - left) / (height * width), box)

    def _uniform(self) -> float:
        return torch.rand((), generator=self.generator, dtype=torch.float64).item()

    def _beta(self, alpha: float) -> float:
        # torch.distributions takes no generator; a ratio of Gamma draws is a Beta draw, and _standard_gamma does.
        first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=self.generator)
        return (first / (first + second).clamp_min(torch.finfo(torch.float64).tiny)).item()

    def _box(self, share: float, height: int, width: int) -> tuple[int, int, int, int]:
        """A rectangle of the image's own aspect, of area ``1 - share``, around a uniform centre (CutMix, eq. 2)."""
        side = (1 - share) ** 0.5
        half_height, half_width = int(height * side) // 2, int(width * side) // 2
        row, column = int(self._uniform() * height), int(self._uniform() * width)
        return (
            max(row - half_height, 0),
            min(row + half_height, height),
            max(column - half_width, 0),
            min(column + half_width, width),
        )


def mix_images(images: Tensor, mix: Mix) -> Tensor:
    """Mix images with their partners.

    Args:
        images: B C H W, any floating type; not modified.
        mix: What was drawn for this batch.

    Returns:
        B C H W, a new tensor.
    """
    partner = mix.partner.to(images.device)
    if mix.box is None:
        return torch.lerp(images[partner], images, mix.share)
    top, bottom, left, right = mix.box
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[partner, ..., top:bottom, left:right]
    return mixed


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Smoothed one-hot targets: ``smoothing`` is spread evenly over all K classes, the label's own included.

    Args:
        labels: B, int64 in [0, K).
        num_classes: K.
        smoothing: In [0, 1).

    Returns:
        B K, float32, rows summing to 1.
    """
    off = smoothing / num_classes
    targets = torch.full((len(labels), num_classes), off, device=labels.device)
    return targets.scatter_(1, labels.unsqueeze(1), 1 - smoothing + off)


def mix_targets(targets: Tensor, mix: Mix) -> Tensor:
    """Share soft targets (B K) between an image and its partner by area."""
    return torch.lerp(targets[mix.partner.to(targets.device)], targets, mix.share)
