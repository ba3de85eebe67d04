"""Pre-training on images without labels, by predicting where their patches belong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.droppos.decoders import DecoderShape
from models.droppos.masks import Masking, Masks, MaskSampler
from models.droppos.network import Affinity, MaskedPositionNetwork, PositionOutput
from models.droppos.published import adapt_published
from models.droppos.smoothing import decayed_sigma, position_targets
from models.timm_attention import AttentionReceipt
from models.vit import adapt_published as adapt_encoder
from models.vit import build_model
from vision_train.artefacts import Artefact
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.seeds import derive_seed
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.exported import Exported
from vision_train.tasks.image_network import installed_attention
from vision_train.tasks.image_program import image_program, timm_call_of
from vision_train.tasks.pretraining import scores as sheet
from vision_train.tasks.pretraining.pictures import PositionPictures
from vision_train.tasks.pretraining.probe import ProbeFeatures
from vision_train.tasks.scores import Scores, ScoreTable


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
    return PretrainingTask(recipe, network, classes, installed_attention(network, recipe))


def _build_network(recipe: Recipe) -> MaskedPositionNetwork:
    model, method = recipe.model, recipe.method
    try:
        encoder = build_model(
            model.name, num_classes=0, image_size=recipe.data.height_and_width, global_pool="token", **model.args
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


class PretrainingTask(Task):
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
    heads = ("decoder", "pixel_decoder", "mask_pos_token")
    """Modules and tokens of pre-training, which a checkpoint of an encoder need not fill."""

    def __init__(
        self, recipe: Recipe, network: MaskedPositionNetwork, classes: Sequence[str], attention: AttentionReceipt
    ) -> None:
        super().__init__(recipe, network, classes, attention)
        pixels = [sheet.PIXEL_LOSS] if network.pixel_decoder is not None else []
        self.metrics = (*sheet.METRICS, *pixels, *([sheet.PROBE_ACCURACY] if classes else []))
        self.masking = Masking(**asdict(recipe.method.masking))
        self.sampler = self._sampler_of(0)
        self.targets = self._targets(0)
        """N x N, what counts as right in the current epoch."""
        self._features: ProbeFeatures | None = None
        self._pictures: PositionPictures | None = None

    def adapt_published(self, state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Translate published weights of DropPos and MAE."""
        adapt = adapt_published if isinstance(network, MaskedPositionNetwork) else adapt_encoder
        return adapt(state, network)

    def encoder(self) -> tuple[Callable[[Tensor], Tensor], str]:
        """The encoder's patches, averaged."""
        positions = self._sees_positions
        words = f"mean of patches{'' if positions else ' without positions'}"
        return partial(self.network.features, positions=positions), words

    def exported(self, size: tuple[int, int] | None) -> Exported:
        """Normalised images -> features, as :meth:`encoder` computes them."""
        encode, words = self.encoder()
        return image_program(
            self.recipe,
            self.network,
            lambda _, image: encode(image),
            size,
            output=("features", f"batch x {self.network.encoder.embed_dim}, float32: {words}"),
            card={"pooling": words},
            timm=timm_call_of(self.recipe, 0, global_pool="avg", fc_norm=False),
            state=self.network.pooled_state(positions=self._sees_positions),
            pipeline="image-feature-extraction",
        )

    @property
    def _sees_positions(self) -> bool:
        """Whether the network was trained with any position; others would disturb it."""
        return self.masking.position_mask_ratio < 1

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

    def seed_generators(self, rank: int) -> None:
        """Give the masks of each process their own seed."""
        self.sampler = self._sampler_of(rank)

    @property
    def notes(self) -> list[str]:
        """A masking that leaves nothing to learn."""
        counts = self.sampler.counts
        if counts.positioned < counts.visible or self.network.pixel_decoder is not None:
            return []
        return ["method.masking drops no position, so there is nothing to learn; every loss is 0"]

    def check_batch(self, size: int) -> None:
        """Any batch will do."""

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

    def new_scores(self) -> ScoreTable:
        """An empty table for the numbers of each image; the probe's features begin anew too."""
        self._features = None
        return ScoreTable(sheet.fields(self.network.pixel_decoder is not None))

    def score(self, batch: Batch, loader: int = 0) -> PositionOutput | None:
        """Score a batch of the first loader; note the features of one of the two of the probe."""
        if loader == 0:
            output = self._predict_fixed(batch)
            self.scores.add(batch["id"], sheet.score_batch(output, self.network.grid), batch.get("group"))
            return output
        features = self.network.features(batch["image"], positions=self._sees_positions)
        if self._features is None:
            self._features = ProbeFeatures(len(self.classes), features.shape[1])
        self._features.add(loader - 1, batch["id"], features, batch["label"])
        return None

    def measure(self, scores: Scores) -> dict[str, float]:
        """How well positions are found, and the probe's accuracy."""
        values = sheet.metrics(scores)
        accuracy = None if self._features is None else self._features.accuracy(self.device)
        if accuracy is not None:
            values[sheet.PROBE_ACCURACY.name] = accuracy
        return values

    def begin_gallery(self) -> None:
        """Begin to keep pictures."""
        pixels = self.recipe.augment.preprocessing
        self._pictures = PositionPictures(self.network.grid, self.network.patch, pixels.mean, pixels.std)

    def consider(self, batch: Batch, output: PositionOutput) -> None:
        """Keep pictures of a batch."""
        assert self._pictures is not None
        self._pictures.add(batch["id"], batch["image"], output)

    def conclude(self, scores: Scores, split: str, measured: Mapping[str, float]) -> list[Artefact]:
        """Metrics and pictures of reconstructed positions."""
        assert self._pictures is not None
        return [*sheet.artefacts(scores, split, measured, self.network.grid), self._pictures.image_grid(split)]

    def _predict_fixed(self, batch: Batch) -> PositionOutput:
        """Predict under masks that depend on an image's id alone, so that epochs, seeds and recipes can be compared."""
        seeds = [derive_seed(0, f"masks of {name}") for name in batch["id"]]
        return self(batch["image"], self._sampler_of(0).draw_each(seeds, batch["image"].device))
