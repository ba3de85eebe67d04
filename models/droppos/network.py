"""The masked-position network: DropPos, and MP3 by configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from models.droppos.decoders import DecoderShape, PixelDecoder, PositionDecoder, pixel_losses
from models.droppos.encoder import check_encoder, encode, encode_whole, initialise, initialise_embeddings
from models.droppos.masks import Masks
from models.droppos.patches import take_patches
from models.positions import position_prefix


@dataclass(frozen=True)
class Affinity:
    """Attentive reconstruction: patches count by how much they resemble the image's class token (DropPos, 3.3).

    Attributes:
        tokens: What the encoder sees for it, always with true positions: the ``full`` image, as published, or the
            ``visible`` patches, at a fraction of the cost.
        temperature: Of the softmax over cosine similarities.
        every: Only one step in so many is weighted so.

    Raises:
        ValueError: The temperature or ``every`` is not positive.
    """

    tokens: Literal["full", "visible"] = "full"
    temperature: float = 0.1
    every: int = 1

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"affinity.temperature={self.temperature:g} must be positive")
        if self.every < 1:
            raise ValueError(f"affinity.every={self.every} must be 1 or more")

    def due(self, step: int) -> bool:
        """Whether a step, counted from 0, is one of those that are weighted."""
        return step % self.every == 0


class PositionOutput(NamedTuple):
    """Result of one pass."""

    loss: Tensor
    """Scalar to minimise."""
    position_loss: Tensor
    """Scalar: weighted mean of the cross-entropy over patches whose position was dropped; 0 where there are none."""
    pixel_losses: Tensor | None
    """B: mean squared error of the removed patches of each image, where pixels are reconstructed."""
    logits: Tensor
    """B x V x N: position of each visible patch, in the order of ``masks.visible``."""
    masks: Masks
    """What was hidden; ``masks.visible`` is the truth of ``logits``, ``masks.dropped`` says where it was asked for."""
    weights: Tensor
    """B x V, float32, without gradient: weight of each patch in the loss; 0 where the position was not dropped."""


class MaskedPositionNetwork(nn.Module):
    """Encodes part of an image's patches, part of them without their positions, and predicts these.

    Attention is timm's own until ``install_attention`` routes this network, encoder and decoders alike.

    Args:
        encoder: A plain timm ``VisionTransformer`` without a classifier, with a class token and a final norm
            (``num_classes=0, global_pool="token"``). It is initialised anew, with fixed sine-cosine positions.
        decoder: Shape of the position decoder, and of the pixel decoder.
        dropped_position: What stands for a dropped position: a ``learned`` vector, or ``zeros`` (MP3).
        affinity: How patches are weighted in the loss; None weights all alike.
        position_weight: Reconstruct the pixels of removed patches too, and weigh the position loss by this much
            against it; None predicts positions alone.

    Raises:
        ValueError: The encoder or the shape does not suit.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        decoder: DecoderShape,
        dropped_position: Literal["learned", "zeros"] = "learned",
        affinity: Affinity | None = None,
        position_weight: float | None = None,
    ) -> None:
        super().__init__()
        check_encoder(encoder)
        assert isinstance(encoder, VisionTransformer)
        self.encoder = encoder
        embedding, width = encoder.patch_embed, encoder.embed_dim
        self.grid: tuple[int, int] = embedding.grid_size
        """Rows and columns of patches."""
        self.patch: tuple[int, int] = embedding.patch_size
        """Height and width of a patch in pixels."""
        self.mask_pos_token = nn.Parameter(torch.zeros(1, 1, width), requires_grad=dropped_position == "learned")
        self.decoder = PositionDecoder(width, decoder, embedding.num_patches)
        self.pixel_decoder: PixelDecoder | None = None
        if position_weight is not None:
            values = encoder.in_chans * self.patch[0] * self.patch[1]
            self.pixel_decoder = PixelDecoder(width, decoder, self.grid, values)
        self.dropped_position = dropped_position
        self.affinity = affinity
        self.position_weight = position_weight
        initialise(self)
        initialise_embeddings(encoder)

    def forward(self, images: Tensor, masks: Masks, targets: Tensor, *, weighted: bool = True) -> PositionOutput:
        """Predict dropped positions and take the loss.

        Args:
            images: B x C x H x W, normalised.
            masks: What is hidden.
            targets: N x N, row i the target distribution of a patch at position i; see ``position_targets``.
            weighted: False weights all patches alike in this pass; see ``Affinity.due``.
        """
        tokens = encode(self.encoder, images, masks, self._no_position())
        prefix = self.encoder.num_prefix_tokens
        logits = self.decoder(tokens, prefix)
        weights = masks.dropped.float()
        if self.affinity is not None and weighted:
            weights = weights * self.affinity_weights(images, masks, self.affinity)
        position_loss = weighted_cross_entropy(logits, targets[masks.visible], weights)
        if self.pixel_decoder is None:
            return PositionOutput(position_loss, position_loss, None, logits, masks, weights)
        assert self.position_weight is not None
        predicted = self.pixel_decoder(tokens[:, :1], tokens[:, prefix:], masks.visible)
        patches = take_patches(images, self._all_patches(images), self.patch)
        pixels = pixel_losses(predicted, patches, masks.visible)
        loss = self.position_weight * position_loss + pixels.mean()
        return PositionOutput(loss, position_loss, pixels, logits, masks, weights)

    def _no_position(self) -> Tensor | None:
        return self.mask_pos_token if self.dropped_position == "learned" else None

    def _all_patches(self, images: Tensor) -> Tensor:
        """Indices of all patches of each image, B x N."""
        return torch.arange(self.grid[0] * self.grid[1], device=images.device).expand(len(images), -1)

    @torch.no_grad()
    def affinity_weights(self, images: Tensor, masks: Masks, affinity: Affinity) -> Tensor:
        """Softmax over the visible patches of their cosine similarity to the class token: B x V, float32.

        The encoder runs as for evaluation, so that no dropout disturbs the weights or the random state. Under autocast
        it must run after the pass with gradients, not before: autocast keeps the weights that it has cast, and those
        of a pass without gradients would lead none through the other.
        """
        training = self.encoder.training
        self.encoder.eval()
        try:
            if affinity.tokens == "full":
                tokens = encode_whole(self.encoder, images, masks.visible)
            else:
                positioned = Masks(masks.visible, torch.zeros_like(masks.dropped), None)
                tokens = encode(self.encoder, images, positioned, None)
        finally:
            self.encoder.train(training)
        tokens = tokens.float()
        patches = tokens[:, self.encoder.num_prefix_tokens :]
        similarity = functional.cosine_similarity(tokens[:, :1], patches, dim=-1)
        # Over the visible patches at once: equals the softmax over all, divided by its sum over the visible.
        temperature = max(affinity.temperature, torch.finfo(similarity.dtype).tiny)
        return ((similarity - similarity.amax(dim=1, keepdim=True)) / temperature).softmax(dim=1)

    def features(self, images: Tensor, *, positions: bool = True) -> Tensor:
        """Mean of the encoded patches of whole images, which fine-tuning pools likewise: B x D.

        Under autocast, call it without gradients only behind a pass with them (see ``affinity_weights``).

        Args:
            images: B x C x H x W, normalised.
            positions: False drops all positions, as a network pre-trained without any has never seen them.
        """
        if positions:
            tokens = self.encoder.forward_features(images)
        else:
            every = self._all_patches(images)
            tokens = encode(self.encoder, images, Masks(every, every >= 0, None), self._no_position())
        pooled: Tensor = tokens[:, self.encoder.num_prefix_tokens :].mean(dim=1)
        return pooled

    def pooled_state(self, *, positions: bool) -> dict[str, Tensor]:
        """Weights of the timm model that computes :meth:`features`: pooled by ``avg`` behind the final norm.

        Args:
            positions: As for :meth:`features`; False puts what stands for dropped positions into their table.
        """
        state = dict(self.encoder.state_dict())
        if not positions:
            first, dropped = position_prefix(self.encoder), self._no_position()
            table = state["pos_embed"].clone()
            table[:, first:] = 0.0 if dropped is None else dropped.detach()
            state["pos_embed"] = table
        return state


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy against soft targets, averaged by weight over the batch, in float32.

    Args:
        logits: B x V x N.
        targets: B x V x N.
        weights: B x V; where all are 0 the loss is 0, with gradients of 0.
    """
    cross_entropy = -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1)
    total = weights.sum()
    # Not by a tiny number, which would make gradients of 0 NaN once a loss is scaled for float16.
    return (weights * cross_entropy).sum() / torch.where(total > 0, total, 1.0)
