"""Mixed batches, and what their labels are: the way from a recipe's ``augment.mixing`` to images and soft targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from augment.labels import attention_share, mix_targets, progressive_share, soft_targets, transmix_share
from augment.mixing import Mix, Mixer, mix_images, own_share, valid_mask_patches
from models.attention_row import attention_source
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.seeds import derive_seed

SHARED_BY_ATTENTION = {"transmix": "cutmix", "progressive": "maskmix"}
"""Way of sharing labels -> the kind of mixing whose labels it shares by attention."""


@dataclass(frozen=True)
class MixedBatch:
    """Images as the network sees them.

    Attributes:
        images: B C H W.
        mix: What was done to them; None if nothing was.
    """

    images: Tensor
    mix: Mix | None


@dataclass(frozen=True)
class LabelShares:
    """How much of its label each mixed sample keeps; the rest goes to its partner's.

    Attributes:
        area: B float32, by pixels alone.
        shared: B float32, by the recipe's rule.
    """

    area: Tensor
    shared: Tensor


class BatchMixing:
    """Mixes batches and shares their labels as a recipe says.

    Args:
        recipe: The checked recipe.
        network: The classifier, for the patches that the masks have to respect and the attention it can give.
        num_classes: K.

    Raises:
        UserError: The mask does not fit the patches or the image, the network has no attention to share labels by, or
            batches cannot be paired.
    """

    def __init__(self, recipe: Recipe, network: nn.Module, num_classes: int) -> None:
        self.options, self.smoothing = recipe.augment.mixing, recipe.method.label_smoothing
        self.seed, self.num_classes = recipe.seed, num_classes
        self.grid: tuple[int, int] | None = None
        """Rows and columns of the attention that labels are shared by."""
        size = recipe.data.image_size
        if self.options.maskmix:
            _check_mask(self.options.mask_patch or 0, network, size)
        if self.options.labels in SHARED_BY_ATTENTION:
            try:
                self.grid = attention_source(network, size).grid
            except ValueError as error:
                remedy = "augment.mixing={labels: area, alpha_grad: false, alpha_rescale: false}"
                raise UserError(f"augment.mixing.labels={self.options.labels}: {error}; set '{remedy}'") from error
        if self.options.partner == "flip" and recipe.data.batch_size % 2:
            raise UserError(
                f"data.batch_size={recipe.data.batch_size}: augment.mixing.partner=flip pairs images two by two; "
                "set an even number, or partner=permutation"
            )
        self.mixer = self.mixer_of(0)

    def mixer_of(self, rank: int) -> Mixer:
        """The source of mixes of one process; each process has a seed of its own."""
        options = self.options
        return Mixer(
            maskmix=options.maskmix,
            mixup=options.mixup,
            cutmix=options.cutmix,
            maskmix_alpha=options.maskmix_alpha,
            mixup_alpha=options.mixup_alpha,
            cutmix_alpha=options.cutmix_alpha,
            mask_patch=options.mask_patch,
            partner=options.partner,
            seed=derive_seed(self.seed, "mixing", rank),
        )

    def mix(self, images: Tensor) -> MixedBatch:
        """Draw a mix for images (B C H W) and apply it."""
        try:
            mix = self.mixer.draw(len(images), *images.shape[-2:])
        except ValueError as error:  # fewer images than one batch, as in a preview, and an odd number of them
            raise UserError(f"augment.mixing: {error}", shared=True) from error
        return MixedBatch(images if mix is None else mix_images(images, mix), mix)

    def wants_attention(self, mix: Mix | None) -> bool:
        """Whether the labels of this mix are shared by the network's attention."""
        return mix is not None and mix.kind == SHARED_BY_ATTENTION.get(self.options.labels)

    def share(self, mixed: MixedBatch, labels: Tensor, logits: Tensor, attention: Tensor) -> LabelShares:
        """Share labels by attention.

        Args:
            mixed: A batch whose mix wants attention.
            labels: B, int64.
            logits: B K, the prediction for the mixed images.
            attention: B N, what the network attended to in them.
        """
        mix, options = mixed.mix, self.options
        assert mix is not None
        assert self.grid is not None
        height, width = mixed.images.shape[-2:]
        own = own_share(mix, self.grid, (height, width)).to(attention.device)
        area = mix.share.to(attention.device)
        attended = attention_share(own, attention, area)
        if options.labels == "transmix":
            return LabelShares(area, transmix_share(area, attended))
        by_area = self._targets(labels, mix, area, self.smoothing)
        shared, _ = progressive_share(
            logits, by_area, area, attended, alpha_grad=options.alpha_grad, alpha_rescale=options.alpha_rescale
        )
        return LabelShares(area, shared)

    def targets(self, labels: Tensor, mix: Mix | None, shared: Tensor | None = None) -> Tensor:
        """Soft targets (B K) of a batch.

        Args:
            labels: B, int64.
            mix: What was done to the images; None if nothing was.
            shared: B, the share of its label each sample keeps; None takes the share of its pixels.
        """
        # MixPro smooths the labels inside its cosine, not those of its loss.
        smoothing = 0.0 if shared is not None and self.options.labels == "progressive" else self.smoothing
        if mix is None:
            return soft_targets(labels, self.num_classes, smoothing)
        return self._targets(labels, mix, mix.share if shared is None else shared, smoothing)

    def _targets(self, labels: Tensor, mix: Mix, share: Tensor, smoothing: float) -> Tensor:
        own = soft_targets(labels, self.num_classes, smoothing)
        return mix_targets(own, mix.partner.to(own.device), share.to(own.device))

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return {"mixing": self.mixer.generator}


def _check_mask(mask_patch: int, network: nn.Module, image_size: int) -> None:
    """Every token has to show one image: cells are whole patches, and the image is whole cells."""
    embedding = getattr(network, "patch_embed", None)
    # Of a hybrid, feat_ratio counts the stride of its convolutions in.
    stride = getattr(embedding, "feat_ratio", None)
    sides = stride() if stride is not None else getattr(embedding, "patch_size", 1)
    patch = math.lcm(*sides) if isinstance(sides, tuple) else int(sides)
    fitting = valid_mask_patches((image_size, image_size), patch)
    if mask_patch not in fitting:
        of_patch = f"a multiple of the model's patch of {patch} and " if patch > 1 else ""
        remedy = f"these fit: {', '.join(map(str, fitting))}" if fitting else "none fits; take larger images"
        raise UserError(
            f"augment.mixing.mask_patch={mask_patch}: must be {of_patch}a divisor of data.image_size={image_size}, "
            f"smaller than that; {remedy}"
        )
