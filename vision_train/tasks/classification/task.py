"""Image classification with soft targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional

from models.attention_row import predict_with_attention
from models.positions import fix_positions
from models.timm_attention import AttentionReceipt, install_attention
from models.vit import adapt_published, build_model, head_names, initialise_head, pooling_words
from vision_train.artefacts import Artefact
from vision_train.errors import UserError
from vision_train.optim import configure_optimizers
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.classification import scores
from vision_train.tasks.classification.mistakes import WorstMistakes
from vision_train.tasks.classification.mixing import BatchMixing, LabelShares, MixedBatch


def build(recipe: Recipe, classes: Sequence[str]) -> ClassificationTask:
    """Build the network that a recipe names and the task that trains it.

    Args:
        recipe: A checked recipe whose task is ``classification``.
        classes: K class names, in the order of the labels.

    Raises:
        UserError: The model does not exist, refuses its arguments or does not take images of this size; its attention
            cannot be computed as asked; the mixing does not suit it.
    """
    model = recipe.model
    try:
        network = build_model(model.name, num_classes=len(classes), image_size=recipe.data.image_size, **model.args)
    except ValueError as error:
        raise UserError(f"model.name={model.name}: {error}") from error
    if model.positions == "sincos":
        try:
            fix_positions(network)
        except ValueError as error:
            raise UserError(f"model.positions=sincos: {error}; leave it `learned`") from error
    if model.head_std is not None:
        initialise_head(network, model.head_std)
    try:
        receipt = install_attention(network, model.attention)
    except ValueError as error:
        raise UserError(f"model.attention={model.attention}: {error}") from error
    return ClassificationTask(recipe, network, classes, receipt)


class ClassificationTask(LightningModule):
    """Trains a network that maps images (B C H W) to logits (B K) by cross-entropy against soft targets.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        classes: K class names, in the order of the labels.
        attention: What computes the network's attention.

    Raises:
        UserError: The recipe's mixing does not suit the network.
    """

    notes: tuple[str, ...] = ()
    """What whoever starts a run should know about its objective."""
    warnings: tuple[str, ...] = ()
    """What whoever reads the result should know."""
    metrics = scores.METRICS
    """What validation measures, without a split's prefix."""
    adapt_published = staticmethod(adapt_published)
    """Translates published weights of this task's networks; given to the checkpoint loader."""

    def __init__(self, recipe: Recipe, network: nn.Module, classes: Sequence[str], attention: AttentionReceipt) -> None:
        super().__init__()
        self.recipe = recipe
        self.network = network
        self.classes = list(classes)
        self.heads = head_names(network)
        """Modules that a checkpoint of other classes need not fill."""
        self.attention = attention
        """What computes attention in the network, and what was refused."""
        self.mixing = BatchMixing(recipe, network, len(classes))
        self.steps_per_epoch = 0
        """Optimiser steps of one epoch; set by the run before training."""
        self.total_steps = 0
        """Optimiser steps of the whole training; set by the run before training."""
        self.test_split = "test"
        """Name under which the test loop reports: the split that it is given."""
        self._parts: list[scores.Scores] = []
        self._mistakes: WorstMistakes | None = None
        self._artefacts: list[Artefact] = []

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B K) of normalised images (B C H W)."""
        return self.network(images)

    def encoder(self) -> tuple[Callable[[Tensor], Tensor], str]:
        """The network without its classifier."""
        cast(Any, self.network).reset_classifier(0)
        return self.network, pooling_words(self.network)

    def on_fit_start(self) -> None:
        """Give the mixing of each process its own seed."""
        self.mixing.mixer = self.mixing.mixer_of(self.global_rank)

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return self.mixing.random_generators()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Mix the batch, predict, take the cross-entropy."""
        mixed = self.mixing.mix(batch["image"])
        logits, shares = self.predict_mixed(mixed, batch["label"])
        targets = self.mixing.targets(batch["label"], mixed.mix, shares.shared if shares else None)
        return functional.cross_entropy(logits, targets)

    def predict_mixed(self, mixed: MixedBatch, labels: Tensor) -> tuple[Tensor, LabelShares | None]:
        """Logits (B K) of mixed images, and how they share their labels (B) where attention decides; else None."""
        if not self.mixing.wants_attention(mixed.mix):
            return self(mixed.images), None
        prediction = predict_with_attention(self.network, mixed.images)
        return prediction.logits, self.mixing.share(mixed, labels, prediction.logits, prediction.attention)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimiser, with its schedule advanced at every optimiser step."""
        steps = {"total_steps": self.total_steps, "steps_per_epoch": self.steps_per_epoch}
        return configure_optimizers(self.network, self.recipe, self.trainer, **steps)

    def on_validation_epoch_start(self) -> None:
        """Begin an empty score sheet."""
        self._parts = []

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Score one batch."""
        self._parts.append(scores.score_batch(batch["id"], self(batch["image"]), batch["label"]))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all processes together."""
        self._log_scores(scores.gather(self._parts), "val")

    def on_test_epoch_start(self) -> None:
        """Begin an empty score sheet and an empty album of mistakes."""
        self._parts = []
        self._mistakes = WorstMistakes(self.recipe.augment.mean, self.recipe.augment.std)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Score one batch and keep its worst mistakes."""
        assert self._mistakes is not None
        part = scores.score_batch(batch["id"], self(batch["image"]), batch["label"])
        self._parts.append(part)
        self._mistakes.add(part, batch["image"])

    def on_test_epoch_end(self) -> None:
        """Log the metrics and prepare what the report shows."""
        assert self._mistakes is not None
        gathered = scores.gather(self._parts)
        self._log_scores(gathered, self.test_split)
        self._artefacts = [
            *scores.artefacts(gathered, self.classes, self.test_split),
            self._mistakes.grid(self.classes, self.test_split),
        ]

    def artefacts(self) -> list[Artefact]:
        """What the last test pass has to show."""
        return self._artefacts

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Class probabilities (B K) in float32."""
        return self(batch["image"]).float().softmax(dim=1)

    def _log_scores(self, gathered: scores.Scores, split: str) -> None:
        values = {f"{split}/{name}": value for name, value in scores.metrics(gathered).items()}
        self.log_dict(values, rank_zero_only=False, sync_dist=False)
