"""Contrastive denoising (Zhang et al., "DINO", ICLR 2023, section 3.3): queries made of spoilt targets.

Groups of queries hold each target twice: once a little off, to be put right, and once further off, to be called
background. Groups see neither each other nor are they seen by the queries that find boxes by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.detr.boxes import logit, to_centre, to_corners


class Target(NamedTuple):
    """What an image holds."""

    boxes: Tensor
    """n x 4, centre and sides as shares of the image without padding."""
    labels: Tensor
    """n, from 0 to C - 1."""
    ignored: Tensor | None = None
    """m x 4, as ``boxes``: regions in which what is found is neither right nor wrong."""
    unsure: Tensor | None = None
    """u x 4, as ``boxes``: where there may be an object. What is found there, by an IoU above one half, is neither."""
    box_weights: Tensor | None = None
    """n, by which losses of the box of whatever finds each target are multiplied; None for 1."""
    weight: float = 1.0
    """By which all losses of the image are multiplied."""


class Noise(NamedTuple):
    """The draws that spoil each copy of a target, in the order (group, positive or negative, image, box)."""

    label_flip: Tensor
    """In [0, 1)."""
    label: Tensor
    """Other labels, which may be the true ones."""
    box_sign: Tensor
    """... x 4, 0 or 1: to the left or up, or to the right or down."""
    box_shift: Tensor
    """... x 4, in [0, 1): of half a side."""


class DenoisingQueries(NamedTuple):
    """P queries of B images, and where targets went."""

    content: Tensor
    """B x P x D."""
    boxes: Tensor
    """B x P x 4; of slots that no target fills (0.5, 0.5, 0.5, 0.5)."""
    filled: Tensor
    """B x P, True where a target is."""
    groups: int
    """G."""
    per_group: int
    """Targets of the fullest image, m: a group has 2 m slots, m positive ones before m negative ones."""


class DenoisingGenerator(nn.Module):
    """Makes denoising queries.

    Args:
        classes: Classes, C.
        dim: Width of the queries, D.
        count: Positive queries at most, unless an image has more targets.
        label_noise: Twice the probability that a label is drawn anew.
        box_noise: Share of half a side by which a corner moves at most; of a negative twice as much.
        most_queries: Queries at most, or None. There are fewer groups then; where even one has no room for all targets
            of the fullest images, their last ones are left out.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        count: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
        most_queries: int | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.count = classes, count
        self.label_noise, self.box_noise, self.most_queries = label_noise, box_noise, most_queries
        self.label_encoder = nn.Embedding(classes, dim)

    def draw(self, copies: int, generator: torch.Generator | None = None) -> Noise:
        """Draw for so many copies of targets, in a fixed order, on the device of the generator."""
        device = self.label_encoder.weight.device if generator is None else generator.device
        options: Any = {"generator": generator, "device": device}
        return Noise(
            torch.rand(copies, **options),
            torch.randint(0, self.classes, (copies,), **options),
            torch.randint(0, 2, (copies, 4), **options),
            torch.rand(copies, 4, **options),
        )

    def plan(self, counts: Sequence[int]) -> tuple[int, int]:
        """Groups and targets a group, for images with so many targets."""
        most, count = max(counts, default=0), self.count
        if self.most_queries is not None:
            most, count = (min(each, self.most_queries // 2) for each in (most, count))
        groups = max(1, count * most // max(most * most, 1))
        return groups, most

    def forward(
        self, targets: Sequence[Target], noise: Noise | None = None, generator: torch.Generator | None = None
    ) -> DenoisingQueries:
        """Make the queries of a batch.

        Args:
            targets: Of each image.
            noise: Draws for all copies; None draws them.
            generator: Where the draws come from; None takes torch's own.

        Raises:
            ValueError: A label is none of the classes.
        """
        groups, most = self.plan([len(target.labels) for target in targets])
        boxes = torch.cat([target.boxes[:most] for target in targets])
        labels = torch.cat([target.labels[:most] for target in targets])
        self._check(labels)
        if noise is None:
            drawn = self.draw(2 * groups * len(labels), generator)
            noise = Noise(*(each.to(boxes.device, non_blocking=True) for each in drawn))
        content = self.label_encoder(self._spoil_labels(labels.repeat(2 * groups), noise))
        spoilt = self._spoil_boxes(boxes.repeat(2 * groups, 1), noise, groups)
        image, slot = _slots([min(len(target.labels), most) for target in targets], groups, most, boxes.device)
        size = (len(targets), 2 * groups * most)
        filled = torch.zeros(size, dtype=torch.bool, device=boxes.device)
        filled[image, slot] = True
        places = (image, slot)
        return DenoisingQueries(
            content.new_zeros(*size, content.shape[-1]).index_put(places, content),
            logit(spoilt).new_zeros(*size, 4).index_put(places, logit(spoilt)).sigmoid(),
            filled,
            groups,
            most,
        )

    def _check(self, labels: Tensor) -> None:
        if labels.device.type == "cpu" and len(labels) and int(labels.max()) >= self.classes:
            raise ValueError(
                f"a target has the label {int(labels.max())}, but there are {self.classes} classes from 0 on"
            )

    def _spoil_labels(self, labels: Tensor, noise: Noise) -> Tensor:
        return torch.where(noise.label_flip < 0.5 * self.label_noise, noise.label, labels)

    def _spoil_boxes(self, boxes: Tensor, noise: Noise, groups: int) -> Tensor:
        """Move each corner by a share of half a side, that of a negative by one to two halves."""
        negative = torch.arange(2.0, device=boxes.device).repeat(groups)
        negative = negative.repeat_interleave(len(boxes) // max(1, 2 * groups))
        shares = (2.0 * noise.box_sign - 1) * (noise.box_shift + negative[:, None])
        halves = (boxes[:, 2:] / 2).repeat(1, 2)
        return to_centre((to_corners(boxes) + shares * halves * self.box_noise).clamp(0, 1))


def _slots(counts: Sequence[int], groups: int, most: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Image and slot of each copy, in the order (group, positive or negative, image, box)."""
    image = torch.tensor([number for number, count in enumerate(counts) for _ in range(count)], dtype=torch.long)
    within = torch.tensor([place for count in counts for place in range(count)], dtype=torch.long)
    starts = torch.arange(2 * groups).repeat_interleave(len(within)) * most
    places = torch.stack((image.repeat(2 * groups), starts + within.repeat(2 * groups)))
    image, slot = places.to(device, non_blocking=True)
    return image, slot


def blocked_pairs(denoising: DenoisingQueries, matching: int, *, hide_empty: bool = False) -> Tensor:
    """Which queries may not attend to which: True where blocked.

    Args:
        denoising: Of B images; they come before the others.
        matching: Queries that find boxes by themselves.
        hide_empty: Whether slots that no target fills are hidden from all others. The official code shows them.

    Returns:
        1 x 1 x N x N, or B x 1 x N x N with ``hide_empty``; rows are those that attend.
    """
    slots = denoising.filled.shape[1]
    device = denoising.filled.device
    group = torch.arange(slots, device=device) // max(1, 2 * denoising.per_group)
    group = torch.cat((group, torch.full((matching,), denoising.groups, device=device)))
    is_matching = group == denoising.groups
    blocked = ((group[:, None] != group) & ~is_matching)[None, None]
    if not hide_empty:
        return blocked
    empty = torch.cat((~denoising.filled, denoising.filled.new_zeros(len(denoising.filled), matching)), dim=1)
    itself = torch.eye(slots + matching, dtype=torch.bool, device=device)
    return blocked | (empty[:, None, None, :] & ~itself)
