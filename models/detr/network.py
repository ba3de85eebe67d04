"""Relation-DETR (Hou et al., ECCV 2024), and DINO (Zhang et al., ICLR 2023) as a configuration of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.detr.decoder import Memory, Predictions
from models.detr.denoising import DenoisingGenerator, DenoisingQueries, Noise, Target, blocked_pairs
from models.detr.neck import ChannelMapper
from models.detr.transformer import Selection, Transformer, TransformerSizes


class Found(NamedTuple):
    """What the network says of a batch."""

    first_stage: Predictions
    """What one layer says of the chosen tokens."""
    queries: Predictions
    """What all layers say of the matching queries, each of which finds another object."""


class Trained(NamedTuple):
    """What the network says of a batch that it learns from."""

    found: Found
    denoising: Predictions | None
    """What all layers say of the denoising queries, which are made of spoilt targets; None without such queries."""
    spoilt: DenoisingQueries | None
    hybrid: Found | None
    """What they say of the hybrid queries, several of which find the same object; None without such queries."""


class RelationDetr(nn.Module):
    """A detector.

    Args:
        backbone: Maps images B x 3 x H x W to feature maps, the finest first.
        channels: Of each map.
        classes: Classes, C.
        sizes: Of the transformer.
        denoising: Makes denoising queries; None takes the paper's settings.
        hide_empty: Whether empty slots of denoising are hidden. The official code shows them.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        classes: int,
        sizes: TransformerSizes,
        denoising: DenoisingGenerator | None = None,
        *,
        hide_empty: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = ChannelMapper(channels, sizes.dim, sizes.levels)
        self.transformer = Transformer(sizes, classes)
        self.denoising_generator = denoising or DenoisingGenerator(classes, sizes.dim)
        self.hide_empty = hide_empty

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the parts that :meth:`forward` and :meth:`learn` share, with the arguments of ``torch.compile``."""
        for part in (self.backbone, self.neck, self.transformer.encoder, self.transformer.decoder):
            part.compile(*args, **kwargs)

    def forward(self, images: Tensor, padding_mask: Tensor) -> Found:
        """Find boxes.

        Args:
            images: B x 3 x H x W, normalised, zeros on padding.
            padding_mask: B x H x W, True on padding.
        """
        memory, _, _, selection = self._first_stage(images, padding_mask)
        content = self.transformer.queries(selection, self.transformer.tgt_embed)
        return Found(selection.predictions, self.transformer.decoder(content, selection.boxes, memory))

    def learn(
        self,
        images: Tensor,
        padding_mask: Tensor,
        targets: Sequence[Target] | None,
        noise: Noise | None = None,
        generator: torch.Generator | None = None,
    ) -> Trained:
        """Find boxes as in training, with denoising and hybrid queries beside.

        Args:
            images: B x 3 x H x W, normalised, zeros on padding.
            padding_mask: B x H x W, True on padding.
            targets: Of each image, of which denoising queries are made; None makes none.
            noise: What spoils the targets; None draws it.
            generator: Where it is drawn from.
        """
        transformer = self.transformer
        memory, tokens, anchors, selection = self._first_stage(images, padding_mask)
        spoilt = None if targets is None else self.denoising_generator(targets, noise, generator)
        values = list(transformer.decoder.project(memory))
        content = transformer.queries(selection, transformer.tgt_embed)
        denoising, found = self._decode(spoilt, content, selection.boxes, memory, values)
        hybrid = self._hybrid(memory, values, tokens, anchors) if transformer.hybrid_queries else None
        return Trained(Found(selection.predictions, found), denoising, spoilt, hybrid)

    def _decode(
        self,
        spoilt: DenoisingQueries | None,
        content: Tensor,
        boxes: Tensor,
        memory: Memory,
        values: list[list[Tensor]],
    ) -> tuple[Predictions | None, Predictions]:
        """What all layers say of denoising queries, if there are any, and of matching ones beside them."""
        decoder = self.transformer.decoder
        if spoilt is None:
            return None, decoder(content, boxes, memory, values=values)
        together = decoder(
            torch.cat((spoilt.content, content), dim=1),
            torch.cat((spoilt.boxes, boxes), dim=1),
            memory,
            blocked_pairs(spoilt, content.shape[1], hide_empty=self.hide_empty),
            values,
        )
        parts = (each.split((spoilt.content.shape[1], content.shape[1]), 2) for each in together)
        denoising, found = (Predictions(logits, boxes) for logits, boxes in zip(*parts, strict=True))
        return denoising, found

    def _first_stage(self, images: Tensor, padding_mask: Tensor) -> tuple[Memory, Tensor, Tensor, Selection]:
        levels = self.neck(self.backbone(images))
        memory, proposals = self.transformer.encode(levels, padding_mask)
        tokens, anchors = self.transformer.describe(memory, proposals)
        return memory, tokens, anchors, self.transformer.first_stage(tokens, anchors)

    def _hybrid(self, memory: Memory, values: list[list[Tensor]], tokens: Tensor, anchors: Tensor) -> Found:
        transformer = self.transformer
        heads = transformer.hybrid_class_head, transformer.hybrid_bbox_head
        selection = transformer.select(tokens, anchors, transformer.hybrid_queries, heads)
        content = transformer.queries(selection, transformer.hybrid_tgt_embed)
        decoded = transformer.decoder(content, selection.boxes, memory, values=values, relate=False)
        return Found(selection.predictions, decoded)
