"""Mixed batches, and what their labels are: the way from a recipe's ``augment.mixing`` to images and soft targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from augment.labels import (
    attention_share,
    mix_targets,
    multi_hot_targets,
    progressive_share,
    soft_targets,
    transmix_share,
)
from augment.mixing import Mix, Mixer, mix_images, own_share, partner_problem, valid_mask_patches
from models.attention_row import Prediction, attention_source, predict_with_attention
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.seeds import derive_seed

SHARED_BY_ATTENTION = {"transmix": "cutmix", "progressive": "maskmix"}
"""Way of sharing labels -> the kind of mixing whose labels it shares by attention."""


@dataclass(frozen=True)
class MixedStep:
    """A batch of B images as the network saw it, its prediction, and what that should have been.

    Attributes:
        logits: B K.
        targets: B K, float32.
        images: B C H W, mixed.
        mix: What was done to the images, with the share of its pixels that each keeps; None if nothing was.
        attended: B, float32: share of its label that each sample keeps, where the network's attention has a say in it;
            else None, and labels are shared as pixels are.
        beside: Logits of the images that were predicted beside the batch, U K; None without any.
    """

    logits: Tensor
    targets: Tensor
    images: Tensor
    mix: Mix | None
    attended: Tensor | None
    beside: Tensor | None = None


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
        size = recipe.data.height_and_width
        if self.options.maskmix:
            _check_mask(self.options.mask_patch or 0, network, size)
        if self.options.labels in SHARED_BY_ATTENTION:
            try:
                self.grid = attention_source(network, size).grid
            except ValueError as error:
                remedy = "augment.mixing={labels: area, alpha_grad: false, alpha_rescale: false}"
                raise UserError(f"augment.mixing.labels={self.options.labels}: {error}; set '{remedy}'") from error
        self.batch_size = recipe.data.batch_size
        self.check_batch(self.batch_size)
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

    def check_batch(self, size: int) -> None:
        """Refuse training batches of this many images if they cannot be mixed.

        Raises:
            UserError: They cannot be; the message names the key that makes them as small or as odd.
        """
        options = self.options
        problem = partner_problem(size, options.partner, options.maskmix + options.mixup + options.cutmix)
        if problem is None:
            return
        fewer = size < self.batch_size
        found = f"the training images make batches of {size} for each process" if fewer else f"data.batch_size={size}"
        if size == 1:
            remedy = "lower trainer.devices, add images" if fewer else "raise it"
            off = "'augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}'"
            remedy += f", or set {off} (trainer.accumulate_grad_batches keeps the effective batch)"
        else:
            other = "change trainer.devices, " if fewer else ""
            remedy = f"{other}set an even data.batch_size, such as {size - 1}, or augment.mixing.partner=permutation"
        raise UserError(f"{found}: {problem}; {remedy}")

    def step(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        accept: Callable[[Mix | None], bool] = lambda mix: True,
        beside: Tensor | None = None,
    ) -> MixedStep:
        """Mix a batch, predict, and share the labels.

        Args:
            network: The classifier.
            images: B C H W, normalised.
            labels: B, int64; or B K, float32, where an image bears several: 1 present, 0 absent, NaN unknown.
            accept: Whether to take a mix that was drawn, or to draw another one. Training takes the first.
            beside: Unlabelled images, U C H W, which are predicted in the same call and never mixed.

        Raises:
            UserError: A batch of this size cannot be mixed.
        """
        mix = self._draw(images)
        while not accept(mix):
            mix = self._draw(images)
        mixed = images if mix is None else mix_images(images, mix)
        shown = mixed if beside is None else torch.cat([mixed, beside])
        if mix is None or mix.kind != SHARED_BY_ATTENTION.get(self.options.labels):
            logits, others = _parted(network(shown), images, beside)
            targets = self._own_targets(labels, self.smoothing)
            if mix is not None:
                targets = self._targets(labels, mix, mix.share, self.smoothing)
            return MixedStep(logits, targets, mixed, mix, None, others)
        logits, attention = predict_with_attention(network, shown)
        logits, others = _parted(logits, images, beside)
        prediction = Prediction(logits, attention[: len(images)])
        attended = self._attended(mix, images.shape[-2:], labels, prediction)
        # MixPro smooths the labels inside its cosine, not those of its loss.
        smoothing = 0.0 if self.options.labels == "progressive" else self.smoothing
        targets = self._targets(labels, mix, attended, smoothing)
        return MixedStep(prediction.logits, targets, mixed, mix, attended, others)

    def _draw(self, images: Tensor) -> Mix | None:
        try:
            return self.mixer.draw(len(images), *images.shape[-2:])
        except ValueError as error:  # fewer images than one batch, as in a preview
            raise UserError(f"augment.mixing: {error}", shared=True) from error

    def _attended(self, mix: Mix, size: torch.Size, labels: Tensor, prediction: Prediction) -> Tensor:
        """Share of its label that each sample keeps by the network's attention: B, float32."""
        options, attention = self.options, prediction.attention
        assert self.grid is not None
        height, width = size
        own = own_share(mix, self.grid, (height, width)).to(attention.device)
        area = mix.share.to(attention.device)
        attended = attention_share(own, attention, area)
        if options.labels == "transmix":
            return transmix_share(area, attended)
        by_area = self._targets(labels, mix, area, self.smoothing)
        shared, _ = progressive_share(
            prediction.logits,
            by_area,
            area,
            attended,
            alpha_grad=options.alpha_grad,
            alpha_rescale=options.alpha_rescale,
        )
        return shared

    def _targets(self, labels: Tensor, mix: Mix, share: Tensor, smoothing: float) -> Tensor:
        own = self._own_targets(labels, smoothing)
        return mix_targets(own, mix.partner.to(own.device), share.to(own.device))

    def _own_targets(self, labels: Tensor, smoothing: float) -> Tensor:
        if labels.ndim == 2:
            return multi_hot_targets(labels, smoothing)
        return soft_targets(labels, self.num_classes, smoothing)

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return {"mixing": self.mixer.generator}


def _parted(logits: Tensor, images: Tensor, beside: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The logits of a batch, and of the images beside it."""
    return (logits, None) if beside is None else (logits[: len(images)], logits[len(images) :])


def _check_mask(mask_patch: int, network: nn.Module, image_size: tuple[int, int]) -> None:
    """Every token has to show one image: cells are whole patches, and the image is whole cells."""
    embedding = getattr(network, "patch_embed", None)
    # Of a hybrid, feat_ratio counts the stride of its convolutions in.
    stride = getattr(embedding, "feat_ratio", None)
    sides = stride() if stride is not None else getattr(embedding, "patch_size", 1)
    patch = math.lcm(*sides) if isinstance(sides, tuple) else int(sides)
    fitting = valid_mask_patches(image_size, patch)
    height, width = image_size
    if mask_patch not in fitting:
        of_patch = f"a multiple of the model's patch of {patch} and " if patch > 1 else ""
        remedy = f"these fit: {', '.join(map(str, fitting))}" if fitting else "none fits; take larger images"
        shown = height if height == width else [height, width]
        raise UserError(
            f"augment.mixing.mask_patch={mask_patch}: must be {of_patch}a divisor of data.image_size={shown}, "
            f"smaller than that; {remedy}"
        )
