"""Pre-training on images without labels, by predicting where their patches belong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
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
from vision_train.optim import build_optimizer, build_schedule
from vision_train.processes import gather_by_id
from vision_train.recipe.recipe import Recipe
from vision_train.seeds import derive_seed
from vision_train.tasks.pretraining import scores
from vision_train.tasks.pretraining.album import Album
from vision_train.tasks.pretraining.probe import probe_accuracy

Measured = list[tuple[list[str], Tensor]]
"""Ids and rows of features with a label at the end, batch by batch."""


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
        masked = network.encoder if recipe.method.masking.context_ratio < 1 else None
        receipt = install_attention(network, recipe.model.attention, masked=masked)
    except ValueError as error:
        raise UserError(f"model.attention={recipe.model.attention}: {error}") from error
    return PretrainingTask(recipe, network, classes, receipt)


def _build_network(recipe: Recipe) -> MaskedPositionNetwork:
    model, method = recipe.model, recipe.method
    if "global_pool" in model.args:
        raise UserError("model.args.global_pool: pre-training pools nothing; take it out")
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
        raise UserError(f"model.name={model.name}: {error}") from error


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
        self.metrics = (*scores.METRICS, *(["probe_accuracy"] if classes else []))
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
        self._probe: dict[int, Measured] = {}
        self._album: Album | None = None
        self._artefacts: list[Artefact] = []

    def _sampler_of(self, rank: int) -> MaskSampler:
        rows, columns = self.network.grid
        try:
            return MaskSampler(self.masking, rows * columns, seed=derive_seed(self.recipe.seed, "masks", rank))
        except ValueError as error:
            raise UserError(f"method.masking.{error}") from error

    def _targets(self, epoch: int, epochs: int = 1) -> Tensor:
        smoothing = self.recipe.method.smoothing
        sigma = decayed_sigma(smoothing.sigma, epoch, epochs) if smoothing.decay else smoothing.sigma
        patch = self.network.patch[0]
        try:
            return position_targets(self.network.grid, sigma, compat=smoothing.compat, patch=patch, device=self.device)
        except ValueError as error:
            raise UserError(f"method.smoothing.{error}") from error

    def on_fit_start(self) -> None:
        """Give the masks of each process their own seed."""
        self.sampler = self._sampler_of(self.global_rank)

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return {"masks": self.sampler.generator}

    def on_train_epoch_start(self) -> None:
        """Narrow what counts as right; it stays the same within an epoch."""
        self.targets = self._targets(self.current_epoch, self.trainer.max_epochs or 1)

    def forward(self, images: Tensor, masks: Masks, *, weighted: bool = True) -> PositionOutput:
        """Predict the dropped positions of normalised images (B C H W)."""
        return self.network(images, masks, self.targets.to(images.device), weighted=weighted)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Mask the batch, predict, take the loss."""
        images, affinity = batch["image"], self.network.affinity
        masks = self.sampler.draw(len(images), images.device)
        output = self(images, masks, weighted=affinity is not None and affinity.due(self.global_step))
        if output.pixel_loss is not None:
            self.log_dict({"train/position_loss": output.position_loss, "train/pixel_loss": output.pixel_loss})
        return output.loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimiser, with its schedule advanced at every optimiser step."""
        batch = self.recipe.data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        optimizer = build_optimizer(self.network, self.recipe.optim, effective_batch=batch)
        steps = {"total_steps": self.total_steps, "steps_per_epoch": self.steps_per_epoch}
        schedule = build_schedule(optimizer, self.recipe.optim, **steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_epoch_start(self) -> None:
        """Begin an empty score sheet."""
        self._sheet, self._probe = scores.ScoreSheet(self.network.grid), {}

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score a batch of validation images, or note the features of one of the probe's two loaders."""
        if dataloader_idx == 0:
            self._sheet.add(batch["id"], self._predict_fixed(batch))
        else:
            self._note_features(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all processes together."""
        _, gathered = self._sheet.gather()
        self._log_metrics(scores.metrics(gathered) | self._probe_metrics(), "val")

    def on_test_epoch_start(self) -> None:
        """Begin an empty score sheet and an empty album."""
        self.on_validation_epoch_start()
        augment = self.recipe.augment
        self._album = Album(self.network.grid, self.network.patch, augment.mean, augment.std)

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score a batch and keep pictures of it, or note the features of one of the probe's two loaders."""
        if dataloader_idx:
            self._note_features(batch, dataloader_idx)
            return
        assert self._album is not None
        output = self._predict_fixed(batch)
        self._sheet.add(batch["id"], output)
        self._album.add(batch["id"], batch["image"], output)

    def on_test_epoch_end(self) -> None:
        """Log the metrics and prepare what the report shows."""
        assert self._album is not None
        ids, gathered = self._sheet.gather()
        self._log_metrics(scores.metrics(gathered) | self._probe_metrics(), self.test_split)
        pictures = self._album.image_grid(self.test_split)
        self._artefacts = [*scores.artefacts(ids, gathered, self.test_split), pictures]

    def artefacts(self) -> list[Artefact]:
        """What the last test pass has to show."""
        return self._artefacts

    def _predict_fixed(self, batch: dict[str, Any]) -> PositionOutput:
        """Predict under masks that depend on an image's id alone, so that epochs, seeds and recipes can be compared."""
        sampler, visible, dropped, context = self._sampler_of(0), [], [], []
        for name in batch["id"]:
            sampler.generator.manual_seed(derive_seed(0, f"masks of {name}"))
            masks = sampler.draw(1)
            visible.append(masks.visible)
            dropped.append(masks.dropped)
            if masks.context is not None:
                context.append(masks.context)
        together = Masks(torch.cat(visible), torch.cat(dropped), torch.cat(context) if context else None)
        return self(batch["image"], together.to(batch["image"].device))

    def _note_features(self, batch: dict[str, Any], loader: int) -> None:
        # A network that never sees a position would be disturbed by them.
        features = self.network.features(batch["image"], positions=self.masking.position_mask_ratio < 1)
        rows = torch.cat([features.float(), batch["label"][:, None].float()], dim=1)
        self._probe.setdefault(loader, []).append((batch["id"], rows.cpu()))

    def _probe_metrics(self) -> dict[str, float]:
        if not self.classes:
            return {}
        parts = [gather_by_id(self._probe.get(loader, []))[1] for loader in (1, 2)]
        on_device = [rows.to(self.device) for rows in parts if rows is not None]
        if len(on_device) < len(parts):  # another split than that which the probe goes with
            return {}
        train, val = ((rows[:, :-1], rows[:, -1].long()) for rows in on_device)
        return {"probe_accuracy": probe_accuracy(train, val, len(self.classes))}

    def _log_metrics(self, values: dict[str, float], split: str) -> None:
        self.log_dict(
            {f"{split}/{name}": value for name, value in values.items()}, rank_zero_only=False, sync_dist=False
        )
