"""The decoder of Relation-DETR: queries with boxes that each layer moves, related to one another by where these lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from models.detr.boxes import embed_boxes, logit
from models.detr.deformable import MultiScaleDeformableAttention
from models.detr.layers import Mlp, SelfAttention, box_head, class_head, feed_forward_layers, start_alike
from models.detr.positions import Shapes
from models.detr.relation import PositionRelation


class Memory(NamedTuple):
    """What the decoder reads from."""

    tokens: Tensor
    """B x S x D, of all levels, one level after the other."""
    shapes: Shapes
    """Height and width of each level."""
    valid_ratios: Tensor
    """B x V x 2, shares of the width and height of each level that are no padding."""
    padding_mask: Tensor
    """B x S, True on padding."""


class Predictions(NamedTuple):
    """What L layers say of N queries."""

    logits: Tensor
    """L x B x N x C, of the probability of each class by itself."""
    boxes: Tensor
    """L x B x N x 4, centre and sides as shares of the image without padding."""


class DecoderLayer(nn.Module):
    """Queries read from one another, then from the memory near their boxes.

    Args:
        dim: Width of the queries, D.
        heads: Heads of attention.
        levels: Feature maps.
        hidden: Width of the hidden layer of the feed-forward network.
        related: Whether the bias among its queries is learned.
    """

    def __init__(self, dim: int, heads: int, levels: int, hidden: int, *, related: bool = False) -> None:
        super().__init__()
        self.cross_attn = MultiScaleDeformableAttention(dim, heads, levels)
        self.norm1 = nn.LayerNorm(dim)
        self.self_attn = SelfAttention(dim, heads, learns_bias=related)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1, self.linear2 = feed_forward_layers(dim, hidden)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self, query: Tensor, position: Tensor, boxes: Tensor, levels: Sequence[Tensor], bias: Tensor | None
    ) -> Tensor:
        """B x N x D -> B x N x D; boxes are B x N x V x 4, as shares of each level with its padding."""
        query = self.norm2(query + self.self_attn(query, position, bias))
        query = self.norm1(query + self.cross_attn(query + position, boxes, levels))
        return self.norm3(query + self.linear2(self.linear1(query).relu()))


class Decoder(nn.Module):
    """Layers that refine boxes, each with heads of its own.

    Args:
        dim: Width of the queries, D; half of it embeds each coordinate of a box.
        heads: Heads of attention.
        levels: Feature maps.
        hidden: Width of the hidden layer of the feed-forward networks.
        depth: Layers, L.
        classes: Classes, C.
        relation: Whether boxes of one layer bias the attention of the next. False is DINO's decoder.
    """

    def __init__(
        self, dim: int, heads: int, levels: int, hidden: int, depth: int, classes: int, *, relation: bool = True
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(dim, heads, levels, hidden, related=relation and number > 0) for number in range(depth)
        )
        self.ref_point_head = Mlp((2 * dim, dim, dim))
        self.query_scale = Mlp((dim, dim, dim))
        self.class_head = nn.ModuleList(class_head(dim, classes) for _ in range(depth))
        self.bbox_head = nn.ModuleList(box_head(dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.position_relation_embedding = PositionRelation(heads) if relation else None
        start_alike(self.class_head)
        start_alike(self.bbox_head)
        start_alike(nn.ModuleList(cast(DecoderLayer, layer).cross_attn for layer in self.layers))

    def project(self, memory: Memory) -> Iterator[list[Tensor]]:
        """What each layer reads from, one level after the other: it does not depend on the queries."""
        for layer in self.layers:
            attention = cast(DecoderLayer, layer).cross_attn
            yield attention.project(memory.tokens, memory.shapes, memory.padding_mask)

    def forward(
        self,
        query: Tensor,
        boxes: Tensor,
        memory: Memory,
        blocked: Tensor | None = None,
        values: Iterable[Sequence[Tensor]] | None = None,
        *,
        relate: bool = True,
    ) -> Predictions:
        """Refine boxes.

        Args:
            query: B x N x D, what each query is.
            boxes: B x N x 4, where each begins.
            memory: What is read from.
            blocked: Broadcasts to B x 1 x N x N, True where a query may not attend to another; None allows all.
            values: What :meth:`project` made of the memory, where several calls share it; None makes it here.
            relate: Whether the position relation is used, if there is one.

        Returns:
            Logits and boxes of every layer.
        """
        relation = self.position_relation_embedding if relate else None
        mask = (
            None if blocked is None else torch.zeros_like(blocked, dtype=query.dtype).masked_fill_(blocked, -torch.inf)
        )
        bias, earlier = mask, boxes
        logits, found = [], []
        ratios = memory.valid_ratios.repeat(1, 1, 2)[:, None]  # B 1 V 4
        for number, (layer, levels) in enumerate(zip(self.layers, values or self.project(memory), strict=True)):
            seen = boxes.detach()[:, :, None] * ratios
            position = self.ref_point_head(embed_boxes(seen[:, :, 0], query.shape[-1] // 2).to(query.dtype))
            if number > 0:
                position = position * self.query_scale(query)
            query = layer(query, position, seen, levels, bias)
            normed, head = self.norm(query), self.bbox_head[number]
            logits.append(self.class_head[number](normed))
            found.append((head(normed).float() + logit(boxes)).sigmoid())
            if number + 1 == len(self.layers):
                break
            if relation is not None:
                bias = relation(earlier, found[-1], blocked)
            earlier = found[-1]
            boxes = (head(query).float() + logit(boxes.detach())).sigmoid()
        return Predictions(torch.stack(logits), torch.stack(found))
