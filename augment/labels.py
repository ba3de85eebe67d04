"""Labels of mixed images: soft targets, and how much of a label each image of a pair earns.

Throughout, a share is that of an image's own label; ``1 - share`` goes to its partner's. It is the area that stays
visible (``Mix.share``), or it follows the attention that the network pays to that area: half each in TransMix, weighed
by how far the prediction already agrees with the area label in MixPro (progressive attention labels). All of it is
float32, whatever the network computes in.

Sources: Chen et al., "TransMix: Attend to Mix for Vision Transformers", CVPR 2022; Zhao et al., "MixPro: Data
Augmentation with MaskMix and Progressive Attention Labeling for Vision Transformer", ICLR 2023; and their code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def soft_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Smoothed one-hot targets: ``smoothing`` is spread evenly over all K classes, the label's own included.

    Args:
        labels: B, int64 in [0, K).
        num_classes: K.
        smoothing: In [0, 1).

    Returns:
        B K, float32, rows summing to 1.

    Raises:
        ValueError: The labels are soft already, or not one for each image.
    """
    if labels.ndim != 1 or labels.is_floating_point():
        kind = str(labels.dtype).removeprefix("torch.")
        raise ValueError(
            f"labels are {kind} of shape {tuple(labels.shape)}; expected one class index (a whole number) for each "
            "image: labels that are soft already cannot be smoothed or mixed again"
        )
    off = smoothing / num_classes
    targets = torch.full((len(labels), num_classes), off, dtype=torch.float32, device=labels.device)
    return targets.scatter_(1, labels.unsqueeze(1), 1 - smoothing + off)


def multi_hot_targets(labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Smoothed targets of images that bear any number of classes: each class is a yes or no of its own.

    Args:
        labels: B K, float32: 1 present, 0 absent, NaN unknown, which stays so.
        smoothing: In [0, 1): what is spread evenly over yes and no.

    Returns:
        B K, float32, in [0, 1].
    """
    return labels * (1 - smoothing) + smoothing / 2


def mix_targets(targets: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Share soft targets between each image and its partner.

    Args:
        targets: B K, float32; what is NaN, as unknown, is so of both images of the pair.
        partner: B, int64.
        share: B, float32, in [0, 1]: what stays with the image's own target.

    Returns:
        B K, float32; rows keep their sum, where both had the same.
    """
    own = share.to(targets.device).unsqueeze(1)
    return torch.lerp(targets[partner.to(targets.device)], targets, own)


def attention_share(own: Tensor, attention: Tensor, area: Tensor) -> Tensor:
    """Share of the attention that falls on an image's own part of the mixed image, as TransMix and MixPro take it.

    Args:
        own: B N, in [0, 1]: how much of each attended cell is the image's own (``augment.mixing.own_share``).
        attention: B N, non-negative, any floating type; need not sum to 1. No gradient passes through it.
        area: B, float32: taken where a row of attention is zero throughout.

    Returns:
        B, float32, in [0, 1].

    Raises:
        ValueError: The attention covers another number of cells than ``own``.
    """
    if own.shape != attention.shape:
        raise ValueError(
            f"attention has shape {tuple(attention.shape)}, the mixed cells {tuple(own.shape)}; expected one weight "
            "for each cell, without those of class, distillation or register tokens"
        )
    attention = attention.detach().float()
    total = attention.sum(dim=1)
    attended_own = (own.to(attention.device) * attention).sum(dim=1)
    return torch.where(total > 0, attended_own / total, area.to(attention.device))


def transmix_share(area: Tensor, attended: Tensor) -> Tensor:
    """Mean of the shares by area and by attention (B each, float32), as TransMix's section 4.1 and code have it."""
    return (area.to(attended.device) + attended) / 2


def progressive_share(
    logits: Tensor,
    area_targets: Tensor,
    area: Tensor,
    attended: Tensor,
    *,
    alpha_grad: bool = False,
    alpha_rescale: bool = False,
) -> tuple[Tensor, Tensor]:
    """Trust attention as far as the prediction agrees with the area label (MixPro's progressive factor).

    ``share = alpha * attended + (1 - alpha) * area``, where alpha is the cosine between the area label and the
    softmax of the logits.

    Args:
        logits: B K, of the mixed images, any floating type.
        area_targets: B K, float32: soft targets shared by area, smoothed as in the cross-entropy of unmixed images.
        area: B, float32.
        attended: B, float32: share by attention.
        alpha_grad: Let the gradient through alpha, as the official code does: the network may then lower its loss by
            moving its own labels. The shares are the same either way.
        alpha_rescale: Measure alpha from where a uniform prediction puts it, which is not 0 (and 0.49 for 10 classes
            shared by halves), so that attention counts for nothing until something has been learnt.

    Returns:
        The shares and alpha: B, float32, in [0, 1] each.
    """
    probabilities = (logits if alpha_grad else logits.detach()).float().softmax(dim=1)
    alpha = functional.cosine_similarity(area_targets, probabilities, dim=1)
    if alpha_rescale:
        uniform = 1 / (area_targets.shape[1] ** 0.5 * area_targets.norm(dim=1))
        room = 1 - uniform
        # A label that is itself uniform leaves nothing to learn: attention then counts for nothing.
        alpha = torch.where(room < 1e-6, 0.0, (alpha - uniform) / room.clamp_min(1e-6))
    alpha = alpha.clamp(0, 1)
    return torch.lerp(area.to(logits.device), attended, alpha), alpha
