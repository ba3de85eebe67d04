"""Bags in, logits and attention out: the interface that all networks for bags share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.mil.stkim import Hide, MaskDraw


class InstanceLogits(NamedTuple):
    """What CLAM's instance classifiers, one for each class, say of the instances at the ends of the attention."""

    attended: Tensor
    """B x C x K x 2: the K instances of most attention; the second logit is for belonging to the class."""
    unattended: Tensor
    """B x C x K x 2: the K of least attention."""
    valid: Tensor
    """B x K, bool: False where a small bag has fewer than K to show."""


class BagOutput(NamedTuple):
    """Result of one pass over B bags of at most N instances."""

    bag_logits: Tensor
    """B x C; their softmax is the prediction."""
    branch_logits: Tensor | None
    """B x T x C, for the loss alone; None where a network has a single branch."""
    attention: Tensor | None
    """B x T x N, or B x T x H x N with H heads, at least float32. Rows sum to 1; hidden instances and padding have 0.
    None where nothing attends."""
    scores: Tensor | None
    """Attention before its softmax, without gradient; minus infinity on hidden instances and padding."""
    bag_feature: Tensor | None
    """B x L: what the bag classifier sees; None for max pooling, which pools logits."""
    instances: InstanceLogits | None = None
    """For CLAM alone."""

    @property
    def branch_attention(self) -> Tensor | None:
        """Mean attention over the heads of each branch: B x T x N, each row sums to 1."""
        if self.attention is None or self.attention.dim() == 3:
            return self.attention
        return self.attention.mean(dim=2)

    @property
    def bag_attention(self) -> Tensor | None:
        """Mean attention over branches and heads: B x N, each row sums to 1."""
        return None if self.attention is None else self.attention.flatten(1, -2).mean(dim=1)


class Pooled(NamedTuple):
    """One bag of N instances, pooled S times: by S = T branches, or T x H heads of branches."""

    features: Tensor
    """S x L."""
    attention: Tensor | None = None
    """S x N."""
    scores: Tensor | None = None
    """S x N."""
    instances: InstanceLogits | None = None
    """Without the dimension of bags."""


class Decision(NamedTuple):
    """What a network concludes from the pooled features of B bags."""

    bag_logits: Tensor
    branch_logits: Tensor | None
    bag_feature: Tensor | None


class BagNetwork(nn.Module):
    """A network for bags: a child says how one bag is pooled, and what follows from it.

    Bags of a batch are pooled one after the other and without their padding, so a padded batch gives what its bags give
    alone, and padding costs nothing. Without gradients, in evaluation mode, instances are worked through in parts:
    beyond the features only scores and attention take memory that grows with N. TransMIL alone needs a bag whole.

    Args:
        in_features: Width D of an instance.
        map_shape: Leading dimensions of the attention of one bag: (T,) or (T, H).
    """

    heads: tuple[str, ...] = ("classifier",)
    """Modules with an output for each class."""
    heads_by_module: tuple[str, ...] = ()
    """Those of them that have a module for each class instead."""
    attends = True
    """Whether the network weighs instances against one another."""
    hides = True
    """Whether instances can be hidden from the network's attention."""

    def __init__(self, in_features: int, map_shape: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        self.in_features = in_features
        self.map_shape = map_shape
        """For ``MaskSampler.draw``."""

    def pool(self, bag: Tensor, hide: Hide | None) -> Pooled:
        """Pool one bag, N x D of any floating dtype.

        Args:
            bag: Its instances.
            hide: Says which entries of S x N scores are hidden; None hides none.
        """
        raise NotImplementedError

    def classify(self, pooled: Tensor) -> Decision:
        """Conclude from pooled features, B x S x L."""
        raise NotImplementedError

    def forward(
        self, features: Tensor, padding_mask: Tensor | None = None, hidden: MaskDraw | None = None
    ) -> BagOutput:
        """Look at B bags.

        Args:
            features: B x N x D of any floating dtype; cast part by part to that of the weights or of autocast. Padding
                may hold anything.
            padding_mask: B x N, bool, True on padding; None where there is none.
            hidden: Noise that decides which instances are hidden (STKIM); None hides none. Ignored in evaluation mode.

        Raises:
            ValueError: A shape or the mask's dtype does not suit, a bag has no instance, or nothing can be hidden.
        """
        if hidden is not None and not self.hides:
            raise ValueError(f"{type(self).__name__} has no attention that instances could be hidden from")
        valid = _valid_instances(features, padding_mask, self.in_features)
        hides: Sequence[Hide | None] = [None] * len(features)
        if hidden is not None and self.training:
            hides = hidden.per_bag(self.map_shape)
        bags = [bag if real is None else bag[real] for bag, real in zip(features, valid, strict=True)]
        pooled = [self.pool(bag, hide) for bag, hide in zip(bags, hides, strict=True)]
        bag_logits, branch_logits, bag_feature = self.classify(torch.stack([bag.features for bag in pooled]))
        return BagOutput(
            bag_logits=bag_logits,
            branch_logits=branch_logits,
            attention=self._together([bag.attention for bag in pooled], valid, padding=0.0),
            scores=self._together([bag.scores for bag in pooled], valid, padding=float("-inf")),
            bag_feature=bag_feature,
            instances=_stack_instances([bag.instances for bag in pooled]),
        )

    def _together(self, maps: list[Tensor | None], valid: list[Tensor | None], padding: float) -> Tensor | None:
        """Put maps of bags (S x N each) together, with padding where it was: B x T (x H) x N."""
        placed = [
            _with_padding(rows, real, padding) for rows, real in zip(maps, valid, strict=True) if rows is not None
        ]
        return torch.stack(placed).unflatten(1, self.map_shape) if placed else None


def _valid_instances(features: Tensor, padding_mask: Tensor | None, width: int) -> list[Tensor | None]:
    """Say which instances of each bag are real (N, bool); None where all are.

    Raises:
        ValueError: A shape or the mask's dtype does not suit, or a bag has no instance.
    """
    if features.dim() != 3 or features.shape[2] != width:
        raise ValueError(f"features of shape {tuple(features.shape)}; this network takes bags x instances x {width}")
    if features.shape[1] == 0:
        raise ValueError("the bags hold no instance; leave empty bags out")
    if padding_mask is None:
        return [None] * len(features)
    if padding_mask.dtype != torch.bool or padding_mask.shape != features.shape[:2]:
        raise ValueError(
            f"a padding mask of {padding_mask.dtype} and shape {tuple(padding_mask.shape)} for features of shape "
            f"{tuple(features.shape)}; it is boolean, bags x instances, True on padding"
        )
    real = ~padding_mask
    lengths = real.sum(dim=1).tolist()
    if 0 in lengths:
        raise ValueError(f"bag {lengths.index(0)} of the batch holds nothing but padding; leave empty bags out")
    return [None if length == features.shape[1] else row for length, row in zip(lengths, real, strict=True)]


def _with_padding(rows: Tensor, real: Tensor | None, padding: float) -> Tensor:
    if real is None:
        return rows
    padded = rows.new_full((len(rows), len(real)), padding)
    padded[:, real] = rows
    return padded


def _stack_instances(instances: list[InstanceLogits | None]) -> InstanceLogits | None:
    found = [bag for bag in instances if bag is not None]
    return InstanceLogits(*map(torch.stack, zip(*found, strict=True))) if found else None
