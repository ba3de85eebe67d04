"""What a pre-training recipe may say under ``method``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from vision_train.data.kind import Problems
from vision_train.data.pool import POOL

DATA = POOL
"""The kind of data that the task trains on."""
GOAL = "weights to start from"
"""What training makes of them."""
SUGGESTED = "droppos/vit_small"
"""The built-in recipe to start from."""
OF_TIMM = True
"""Networks are timm's, or built as timm builds its own."""


@dataclass(frozen=True)
class Masking:
    """How much of each image the network does not get to see.

    DropPos removes patches and drops positions; MP3 keeps all patches, drops all positions and lets attention read
    from a part of them.
    """

    mask_ratio: float = 0.75
    """Share of the patches that are removed before the encoder."""
    position_mask_ratio: float = 0.75
    """Share of the remaining patches that lose their position, which is to be predicted; 0 predicts none, which serves
    pixels alone."""
    context_ratio: float = 1.0
    """Share of the remaining patches that attention may read from; below 1 for MP3."""

    def problems(self) -> Problems:
        """Yield ratios outside their range."""
        if not 0 <= self.mask_ratio < 1:
            yield "mask_ratio", f"is {self.mask_ratio}; must lie in [0, 1)"
        if not 0 <= self.position_mask_ratio <= 1:
            yield "position_mask_ratio", f"is {self.position_mask_ratio}; must lie in [0, 1]"
        if not 0 < self.context_ratio <= 1:
            yield "context_ratio", f"is {self.context_ratio}; must lie in (0, 1]"


@dataclass(frozen=True)
class Decoder:
    """What turns encoded patches into positions; thrown away after pre-training."""

    width: int = 512
    """Channels."""
    depth: int = 2
    """Transformer blocks; 0 is a linear head on the encoder, as in MP3."""
    heads: int = 16
    """Attention heads of a block."""

    def problems(self) -> Problems:
        """Yield shapes that cannot be built."""
        if self.depth < 0:
            yield "depth", f"is {self.depth}; must be 0 or more"
        for key in ("width", "heads"):
            if getattr(self, key) < 1:
                yield key, f"is {getattr(self, key)}; must be at least 1"
        if self.width > 0 and self.heads > 0 and self.width % self.heads:
            yield "heads", f"is {self.heads}, which does not divide the width of {self.width}"


@dataclass(frozen=True)
class Smoothing:
    """Positions near the true one count as partly right."""

    sigma: float = 1.0
    """Width of the neighbourhood in patches: a position at distance d counts exp(-d^2 / sigma^2); 0 for the true one
    alone."""
    decay: bool = True
    """Let the width fall linearly to almost 0 over the training."""
    compat: Literal["official"] | None = None
    """`official` repeats the released training loop, which lays positions out on a wrong grid where an image does not
    have as many patches in a row as a patch has pixels, and sums over the wrong axis."""

    def problems(self) -> Problems:
        """Yield a negative width."""
        if self.sigma < 0:
            yield "sigma", f"is {self.sigma}; must be 0 or more"


@dataclass(frozen=True)
class Affinity:
    """Attentive reconstruction: patches that resemble the whole image count more."""

    tokens: Literal["full", "visible"] = "full"
    """What resemblance is measured on: the `full` image as published, or the `visible` patches alone at a fraction of
    the cost."""
    temperature: float = 0.1
    """How evenly the weight is spread; lower prefers the most similar patches."""
    every: int = 1
    """Only one step in so many is weighted, to save time."""

    def problems(self) -> Problems:
        """Yield values that are not positive."""
        if self.temperature <= 0:
            yield "temperature", f"is {self.temperature}; must be above 0"
        if self.every < 1:
            yield "every", f"is {self.every}; must be at least 1"


@dataclass(frozen=True)
class Method:
    """Training objective: cross-entropy between predicted and smoothed true positions of patches."""

    masking: Masking = field(default_factory=Masking)
    """What is hidden."""
    dropped_position: Literal["learned", "zeros"] = "learned"
    """What a patch without its position gets instead: a learned vector, or nothing."""
    decoder: Decoder = field(default_factory=Decoder)
    """What predicts the positions."""
    smoothing: Smoothing = field(default_factory=Smoothing)
    """What counts as right."""
    affinity: Affinity | None = None
    """How patches are weighted; null counts all alike."""
    position_weight: float | None = None
    """Also reconstruct the pixels of removed patches (MAE), and weigh the position loss by this much against it; null
    predicts positions alone."""

    def misplaced(self, recipe: Any) -> Problems:
        """Yield keys of other sections that pre-training does not use."""
        mixing = recipe.augment.mixing
        if mixing.maskmix + mixing.mixup + mixing.cutmix > 0:
            yield "augment.mixing", "mixes images, which pre-training does not; leave maskmix, mixup and cutmix at 0"
        if "global_pool" in recipe.model.args:
            yield "model.args.global_pool", "is not for a recipe to set: pre-training pools nothing"
        if recipe.model.head_std is not None:
            yield "model.head_std", "is set, but pre-training has no classifier; leave it null"
        if recipe.optim.layer_decay is not None:
            yield "optim.layer_decay", "is set, but pre-training trains all layers alike; leave it null"

    def problems(self) -> Problems:
        """Yield a pixel loss without what it needs."""
        if self.position_weight is None:
            return
        if self.position_weight <= 0:
            yield "position_weight", f"is {self.position_weight}; must be above 0 (null predicts positions alone)"
        if not self.decoder.depth or self.decoder.width % 4:
            yield (
                "position_weight",
                "reconstructs pixels, which takes a decoder with blocks and a width that is a multiple of 4",
            )
        if not self.masking.mask_ratio:
            yield "position_weight", "reconstructs removed patches, and masking.mask_ratio=0 removes none"
