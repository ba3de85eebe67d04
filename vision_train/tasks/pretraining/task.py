"""Pre-training on images without labels, by predicting where their patches belong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from models.droppos.decoders import DecoderShape
from models.droppos.masks import Masking, Masks, MaskSampler
from models.droppos.network import Affinity, MaskedPositionNetwork, PositionOutput
from models.droppos.published import adapt_published
from models.droppos.smoothing import decayed_sigma, position_targets
from models.timm_attention import AttentionReceipt, install_attention
from models.vit import build_model
from vision_train.artefacts import Artefact
from vision_train.errors import UserError
from vision_train.optim import configure_optimizers
from vision_train.recipe.recipe import Recipe
from vision_train.seeds import derive_seed
from vision_train.tasks.pretraining import scores
from vision_train.tasks.pretraining.album import Album
from vision_train.tasks.pretraining.probe import FeatureSheet


def build(recipe: Recipe, classes: Sequence[str]) -> PretrainingTask:
    """Build the network that a recipe names and the task that trains it.

    Args:
        recipe: A checked recipe whose task is ``pretraining``.
        classes: K class names of the probe; none where there is no probe.

    Raises:
        UserError: The model does not exist, refuses its arguments, does not take images of this size or cannot be
            pre-trained by position; its attention cannot be computed as asked.
    """
    network = _build_network(recipe)
    try:
        receipt = install_attention(network, recipe.model.attention)
    except ValueError as error:
        raise UserError(f"model.attention={recipe.model.attention}: {error}") from error
    return PretrainingTask(recipe, network, classes, receipt)


def _build_network(recipe: Recipe) -> MaskedPositionNetwork:
    model, method = recipe.model, recipe.method
    try:
        encoder = build_model(
            model.name, num_classes=0, image_size=recipe.data.image_size, global_pool="token", **model.args
        )
        return MaskedPositionNetwork(
            encoder,
            decoder=DecoderShape(**asdict(method.decoder)),
            dropped_position=method.dropped_position,
            affinity=Affinity(**asdict(method.affinity)) if method.affinity else None,
            position_weight=method.position_weight,
        )
    except ValueError as error:
        # Of networks of other kinds; they refuse our pooling, which the user has not asked for.
        suitable = "plain vision transformers of timm with a class token, such as vit_small_patch16_224, or `vit`"
        other = any(
            text in str(error)
            for text in ("Invalid pool type", "no plain vision transformer", "class token", "class_token")
        )
        hint = f"; pre-training takes {suitable}" if other else ""
        raise UserError(f"model.name={model.name}: {error}{hint}") from error


class PretrainingTask(LightningModule):
    """Trains a network to put patches back at the positions that were dropped.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        classes: K class names of the probe; none where there is no probe.
        attention: What computes the network's attention.

    Raises:
        UserError: The masks leave nothing of an image, or the released smoothing cannot be repeated at its size.
    """

    network: MaskedPositionNetwork
    adapt_published = staticmethod(adapt_published)
    """Translates published weights of this task's networks; given to the checkpoint loader."""
    warnings: tuple[str, ...] = ()
    """What whoever reads the result should know."""
    heads = ("decoder", "pixel_decoder")
    """Modules that a checkpoint of an encoder need not fill."""

    def __init__(
        self, recipe: Recipe, network: MaskedPositionNetwork, classes: Sequence[str], attention: AttentionReceipt
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.network = network
        self.classes = list(classes)
        self.attention = attention
        """What computes attention in the network, and what was refused."""
        pixels = ["pixel_loss"] if network.pixel_decoder is not None else []
        self.metrics = (*scores.METRICS, *pixels, *(["probe_accuracy"] if classes else []))
        """What validation measures, without a split's prefix."""
        self.masking = Masking(**asdict(recipe.method.masking))
        self.sampler = self._sampler_of(0)
        self.targets = self._targets(0)
        """N x N, what counts as right in the current epoch."""
        self.steps_per_epoch = 0
        """Optimiser steps of one epoch; set by the run before training."""
        self.total_steps = 0
        """Optimiser steps of the whole training; set by the run before training."""
        self.test_split = "val"
        """Name under which the test loop reports: the split that it is given."""
        self._sheet = scores.ScoreSheet(network.grid)
        self._features = FeatureSheet(len(self.classes))
        self._album: Album | None = None
        self._artefacts: list[Artefact] = []

    def encoder(self) -> tuple[Callable[[Tensor], Tensor], str]:
        """The encoder's patches, averaged."""
        # Positions would disturb a network that never saw one.
        positions = self.masking.position_mask_ratio < 1
        words = f"mean of patches{'' if positions else ' without positions'}"
        return partial(self.network.features, positions=positions), words

    def _sampler_of(self, rank: int) -> MaskSampler:
        rows, columns = self.network.grid
        try:
            return MaskSampler(self.masking, rows * columns, seed=derive_seed(self.recipe.seed, "masks", rank))
        except ValueError as error:
            raise UserError(f"method.masking.{error}") from error

    def _targets(self, epoch: int, epochs: int = 1) -> Tensor:
        smoothing = self.recipe.method.smoothing
        sigma = decayed_sigma(smoothing.sigma, epoch, epochs) if smoothing.decay else smoothing.sigma
        height, width = self.network.patch
        patch = height if height == width else None
        try:
            return position_targets(self.network.grid, sigma, compat=smoothing.compat, patch=patch, device=self.device)
        except ValueError as error:
            raise UserError(f"method.smoothing.{error}") from error

    def on_fit_start(self) -> None:
        """Give the masks of each process their own seed."""
        self.sampler = self._sampler_of(self.global_rank)

    @property
    def notes(self) -> list[str]:
        """What whoever starts a run should know about its objective."""
        counts = self.sampler.counts
        if counts.positioned < counts.visible or self.network.pixel_decoder is not None:
            return []
        return ["method.masking drops no position, so there is nothing to learn; every loss is 0"]

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return {"masks": self.sampler.generator}

    def on_train_epoch_start(self) -> None:
        """Narrow what counts as right; it stays the same within an epoch."""
        # All that there will be: trainer.max_steps may end training before max_epochs.
        epochs = max(-(-self.total_steps // max(self.steps_per_epoch, 1)), 1)
        self.targets = self._targets(min(self.current_epoch, epochs - 1), epochs)

    def forward(self, images: Tensor, masks: Masks, *, weighted: bool = True) -> PositionOutput:
        """Predict the dropped positions of normalised images (B C H W)."""
        return self.network(images, masks, self.targets.to(images.device), weighted=weighted)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Mask the batch, predict, take the loss."""
        images, affinity = batch["image"], self.network.affinity
        masks = self.sampler.draw(len(images), images.device)
        output = self(images, masks, weighted=affinity is not None and affinity.due(self.global_step))
        if output.pixel_losses is not None:
            self.log_dict({"train/position_loss": output.position_loss, "train/pixel_loss": output.pixel_losses.mean()})
        return output.loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimiser, with its schedule advanced at every optimiser step."""
        steps = {"total_steps": self.total_steps, "steps_per_epoch": self.steps_per_epoch}
        return configure_optimizers(self.network, self.recipe, self.trainer, **steps)

    def on_validation_epoch_start(self) -> None:
        """Begin empty sheets."""
        self._sheet = scores.ScoreSheet(self.network.grid)
        self._features = FeatureSheet(len(self.classes))

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score a batch of validation images, or note the features of one of the probe's two loaders."""
        self._score(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all processes together."""
        self._log_metrics(self._sheet.gather(), "val")

    def on_test_epoch_start(self) -> None:
        """Begin empty sheets and an empty album."""
        self.on_validation_epoch_start()
        augment = self.recipe.augment
        self._album = Album(self.network.grid, self.network.patch, augment.mean, augment.std)

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score a batch and keep pictures of it, or note the features of one of the probe's two loaders."""
        assert self._album is not None
        output = self._score(batch, dataloader_idx)
        if output is not None:
            self._album.add(batch["id"], batch["image"], output)

    def on_test_epoch_end(self) -> None:
        """Log the metrics and prepare what the report shows."""
        assert self._album is not None
        gathered = self._sheet.gather()
        measured = self._log_metrics(gathered, self.test_split)
        pictures = self._album.image_grid(self.test_split)
        self._artefacts = [*scores.artefacts(gathered, self.test_split, measured, self.network.grid), pictures]

    def artefacts(self) -> list[Artefact]:
        """What the last test pass has to show."""
        return self._artefacts

    def _predict_fixed(self, batch: dict[str, Any]) -> PositionOutput:
        """Predict under masks that depend on an image's id alone, so that epochs, seeds and recipes can be compared."""
        seeds = [derive_seed(0, f"masks of {name}") for name in batch["id"]]
        return self(batch["image"], self._sampler_of(0).draw_each(seeds, batch["image"].device))

    def _score(self, batch: dict[str, Any], loader: int) -> PositionOutput | None:
        """Score a batch of the first loader; note the features of one of the two of the probe."""
        if loader == 0:
            output = self._predict_fixed(batch)
            self._sheet.add(batch["id"], output)
            return output
        # A network that never sees a position would be disturbed by them.
        features = self.network.features(batch["image"], positions=self.masking.position_mask_ratio < 1)
        self._features.add(loader - 1, batch["id"], features, batch["label"])
        return None

    def _log_metrics(self, gathered: scores.Gathered, split: str) -> dict[str, float]:
        values = scores.metrics(gathered)
        accuracy = self._features.accuracy(self.device) if self.classes else None
        if accuracy is not None:
            values["probe_accuracy"] = accuracy
        self.log_dict(
            {f"{split}/{name}": value for name, value in values.items()}, rank_zero_only=False, sync_dist=False
        )
        return values
