"""The transformer of Relation-DETR: levels of features become queries with classes and boxes, in two stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from models.detr.backbones import STRIDES
from models.detr.decoder import Decoder, Memory, Predictions
from models.detr.encoder import Encoder
from models.detr.layers import Mlp, box_head, class_head
from models.detr.neck import GROUPS
from models.detr.positions import (
    embed_positions,
    padding_of_levels,
    propose_boxes,
    token_centres,
    valid_ratios,
)


@dataclass(frozen=True)
class TransformerSizes:
    """Sizes and parts of a transformer.

    Raises:
        ValueError: A size is no whole number, out of its range, or does not fit another one; the message begins with
            its name.
    """

    dim: int = 256
    """Width of tokens and queries, D; a multiple of 32."""
    heads: int = 8
    """Heads of attention, which divide D."""
    hidden: int = 2048
    """Width of the hidden layer of the feed-forward networks."""
    encoder_layers: int = 6
    decoder_layers: int = 6
    levels: int = 4
    """Feature maps, of which a backbone gives three."""
    queries: int = 900
    """Queries that find boxes, each another one."""
    hybrid_queries: int = 1500
    """Queries that find boxes in training alone, several the same; 0 for none."""
    relation: bool = True
    """Whether boxes of one decoder layer bias the attention of the next."""
    memory_fusion: bool = True
    """Whether the memory is made of the outputs of all encoder layers."""

    def __post_init__(self) -> None:
        """Refuse what is no transformer."""
        for field in fields(self):
            value, usual = getattr(self, field.name), cast(Any, field.default)
            kind = type(usual)
            if type(value) is not kind:  # True is a whole number to Python
                expected = "true or false" if kind is bool else "a whole number"
                raise ValueError(f"{field.name}: is {value!r}; must be {expected}")
            least = {"hybrid_queries": 0, "levels": len(STRIDES)}.get(field.name, 1)
            if kind is int and value < least:
                raise ValueError(f"{field.name}: is {value}; must be at least {least}")
        if self.dim % GROUPS:
            raise ValueError(f"dim: is {self.dim}; must be a multiple of {GROUPS}, the groups of the neck's norms")
        if self.dim % self.heads:
            raise ValueError(f"heads: is {self.heads}; must divide dim, which is {self.dim}")


class Selection(NamedTuple):
    """What the first stage says of tokens, and the boxes that queries begin with."""

    predictions: Predictions
    """1 x B x Q x C and 1 x B x Q x 4, of the chosen tokens."""
    boxes: Tensor
    """B x Q x 4, without gradient."""


class Transformer(nn.Module):
    """Encoder, choice of tokens, decoder.

    Args:
        sizes: Sizes and parts.
        classes: Classes, C.
    """

    def __init__(self, sizes: TransformerSizes, classes: int) -> None:
        super().__init__()
        dim, shared = sizes.dim, (sizes.dim, sizes.heads, sizes.levels, sizes.hidden)
        self.level_embeds = nn.Parameter(torch.randn(sizes.levels, dim))
        self.encoder = Encoder(*shared, sizes.encoder_layers, memory_fusion=sizes.memory_fusion)
        self.decoder = Decoder(*shared, sizes.decoder_layers, classes, relation=sizes.relation)
        self.enc_output = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.enc_output.weight)
        nn.init.zeros_(self.enc_output.bias)
        self.enc_output_norm = nn.LayerNorm(dim)
        self.encoder_class_head, self.encoder_bbox_head = class_head(dim, classes), box_head(dim)
        self.tgt_embed = nn.Embedding(sizes.queries, dim)
        self.hybrid_queries = sizes.hybrid_queries
        if sizes.hybrid_queries:
            self.hybrid_tgt_embed = nn.Embedding(sizes.hybrid_queries, dim)
            self.hybrid_class_head, self.hybrid_bbox_head = class_head(dim, classes), box_head(dim)

    def encode(self, levels: Sequence[Tensor], padding_mask: Tensor) -> tuple[Memory, Tensor]:
        """Encode levels of features.

        Args:
            levels: B x D x h x w, the finest first.
            padding_mask: B x H x W of the pixels, True on padding.

        Returns:
            The memory, and the boxes proposed by its tokens, B x S x 4.
        """
        shapes = [(level.shape[-2], level.shape[-1]) for level in levels]
        masks = padding_of_levels(padding_mask, shapes)
        positions = [
            embed_positions(mask, level.shape[1]).to(level.dtype) + self.level_embeds[number, :, None, None]
            for number, (mask, level) in enumerate(zip(masks, levels, strict=True))
        ]
        ratios = valid_ratios(masks)
        centres = token_centres(shapes, ratios)
        padding = torch.cat([mask.flatten(1) for mask in masks], dim=1)
        references = centres[:, :, None] * ratios[:, None]
        tokens = self.encoder(_flat(levels), _flat(positions), references, shapes, padding)
        return Memory(tokens, shapes, ratios, padding), propose_boxes(centres, shapes)

    def describe(self, memory: Memory, proposals: Tensor) -> tuple[Tensor, Tensor]:
        """What the first stage makes of each token: features, B x S x D, and logits of the box proposed, B x S x 4."""
        usable = ((proposals > 0.01) & (proposals < 0.99)).all(-1, keepdim=True) & ~memory.padding_mask[..., None]
        tokens = self.enc_output_norm(self.enc_output(memory.tokens.masked_fill(~usable, 0.0)))
        anchors = torch.log(proposals / (1 - proposals)).masked_fill(~usable, torch.inf)
        return tokens, anchors

    def select(self, tokens: Tensor, anchors: Tensor, count: int, heads: tuple[nn.Linear, Mlp]) -> Selection:
        """Choose the tokens whose likeliest class is the most probable, as many as there are queries or tokens.

        Args:
            tokens: B x S x D.
            anchors: B x S x 4, logits of the proposed boxes; infinite where a token proposes none.
            count: Queries.
            heads: Of classes and of boxes.
        """
        class_logits = heads[0](tokens)
        chosen = class_logits.amax(-1).topk(min(count, tokens.shape[1]), dim=1).indices[..., None]
        # Only the boxes of chosen tokens are asked for: the head is applied to them alone.
        corrections = heads[1](tokens.gather(1, chosen.expand(-1, -1, tokens.shape[-1]))).float()
        boxes = (corrections + anchors.gather(1, chosen.expand(-1, -1, 4))).sigmoid()
        logits = class_logits.gather(1, chosen.expand(-1, -1, class_logits.shape[-1]))
        return Selection(Predictions(logits[None], boxes[None]), boxes.detach())

    def first_stage(self, tokens: Tensor, anchors: Tensor) -> Selection:
        """Boxes for the queries that find each another object."""
        heads = self.encoder_class_head, self.encoder_bbox_head
        return self.select(tokens, anchors, self.tgt_embed.num_embeddings, heads)

    def queries(self, selection: Selection, table: nn.Embedding) -> Tensor:
        """Content of the queries, B x Q x D: the same for each image."""
        batch, count = selection.boxes.shape[:2]
        return table.weight[:count].expand(batch, -1, -1)


def _flat(levels: Sequence[Tensor]) -> Tensor:
    """B x D x h x w of each level -> B x S x D."""
    return torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2)
