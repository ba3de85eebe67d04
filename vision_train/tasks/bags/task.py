"""Classification of bags by what attention finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from models.mil import losses
from models.mil.bags import BagNetwork, BagOutput
from models.mil.networks import NETWORKS, published_width
from models.mil.published import adapt_published
from models.mil.stkim import InstanceMasking, MaskDraw, MaskSampler
from models.timm_attention import AttentionReceipt
from vision_train.artefacts import Artefact
from vision_train.errors import UserError
from vision_train.optim import configure_optimizers
from vision_train.processes import gather_objects
from vision_train.recipe.recipe import Recipe
from vision_train.seeds import derive_seed
from vision_train.tasks.bags import scores
from vision_train.tasks.bags.collapse import Learnt, warnings_of
from vision_train.tasks.bags.exhibits import Exhibits, result_artefacts

UNKNOWN_WIDTH = 1024
"""Features of an instance where no data were read, as when a recipe is only looked at."""
COUNTS = {"width", "branches", "attention_width", "instances"}
"""Arguments of networks that count something."""


def build(recipe: Recipe, classes: Sequence[str]) -> BagTask:
    """Build the network that a recipe names and the task that trains it.

    Args:
        recipe: A checked recipe whose task is ``bags``; its ``data.feature_width`` is what the data say.
        classes: C class names, in the order of the labels.

    Raises:
        UserError: There is no such network, it refuses its arguments, or it lacks what ``method`` acts on.
    """
    name, in_features = recipe.model.name, recipe.data.feature_width or UNKNOWN_WIDTH
    if name not in NETWORKS:
        raise UserError(f"model.name={name}: no network for bags; there are {', '.join(NETWORKS)}")
    arguments = {"width": published_width(in_features), **recipe.model.args}
    for key in sorted(COUNTS & arguments.keys()):
        if type(arguments[key]) is not int or arguments[key] < 1:
            raise UserError(f"model.args.{key}: is {arguments[key]}; must be a whole number, at least 1")
    try:
        network = NETWORKS[name](in_features=in_features, classes=len(classes), **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.name={name}: refuses model.args={recipe.model.args} ({error})") from error
    if recipe.method.hiding is not None and not network.hides:
        raise UserError(f"method.hiding: {name} has no attention that instances could be hidden from; set it to null")
    if recipe.method.entropy_weight and not network.hides:
        raise UserError(f"method.entropy_weight: {name} has no attention in training to spread; set it to 0")
    if recipe.method.instance_weight and name != "clam_sb":
        raise UserError(f"method.instance_weight: {name} has no instance classifiers, as clam_sb has; set it to 0")
    return BagTask(recipe, network, classes)


class BagTask(LightningModule):
    """Trains a network that maps bags of instances (B N D) to logits (B C).

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        classes: C class names, in the order of the labels.
    """

    network: BagNetwork
    adapt_published = staticmethod(adapt_published)
    """Translates published weights of this task's networks; given to the checkpoint loader."""

    def __init__(self, recipe: Recipe, network: BagNetwork, classes: Sequence[str]) -> None:
        super().__init__()
        self.recipe = recipe
        self.network = network
        self.classes = list(classes)
        self.heads = network.heads
        """Modules that a checkpoint of other classes need not fill."""
        self.attention = AttentionReceipt("auto", {}, {recipe.model.name: "pools bags in its own way"})
        """What computes attention in the network."""
        self.metrics = (*scores.METRICS, *(scores.ATTENTION_METRICS if network.attends else ()))
        """What validation measures, without a split's prefix."""
        self.sampler = self._sampler_of(0)
        self.warnings: list[str] = []
        """What whoever reads the result should know; filled in by the test pass."""
        self.steps_per_epoch = 0
        """Optimiser steps of one epoch; set by the run before training."""
        self.total_steps = 0
        """Optimiser steps of the whole training; set by the run before training."""
        self.test_split = "test"
        """Name under which the test loop reports: the split that it is given."""
        self._learnt = Learnt(len(self.classes))
        self._since_line: list[dict[str, Tensor]] = []
        self._parts: list[tuple[list[str], Tensor]] = []
        self._groups: dict[str, str] = {}
        self._exhibits: Exhibits | None = None
        self._artefacts: list[Artefact] = []

    def _sampler_of(self, rank: int) -> MaskSampler | None:
        hiding = self.recipe.method.hiding
        if hiding is None:
            return None
        masking = InstanceMasking(**{each.name: getattr(hiding, each.name) for each in fields(InstanceMasking)})
        return MaskSampler(masking, seed=derive_seed(self.recipe.seed, "hiding", rank))

    @property
    def notes(self) -> list[str]:
        """What whoever starts a run should know about its objective."""
        name, method = self.recipe.model.name, self.recipe.method
        added = {"hiding": (method.hiding, "null"), "entropy_weight": (method.entropy_weight, "0")}
        notes = [
            f"method.{key} acts on {name} too; method.{key}={without} trains it as published"
            for key, (value, without) in added.items()
            if value and not name.startswith("acmil")
        ]
        if self.sampler and method.hiding.mode == "exact" and not int(method.hiding.top_k * method.hiding.drop_ratio):
            notes.append("method.hiding hides nothing: top_k times drop_ratio is below 1")
        if method.hiding and method.hiding.warmup_epochs >= self.recipe.trainer["max_epochs"]:
            notes.append("method.hiding hides nothing: method.hiding.warmup_epochs is as long as the training")
        return notes

    def on_fit_start(self) -> None:
        """Give what each process hides its own seed."""
        self.sampler = self._sampler_of(self.global_rank)

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return {} if self.sampler is None else {"hiding": self.sampler.generator}

    def forward(self, batch: dict[str, Any], hidden: MaskDraw | None = None) -> BagOutput:
        """Look at a batch of bags."""
        return self.network(batch["features"], batch["padding_mask"], hidden)

    def on_train_epoch_start(self) -> None:
        """Begin to note the bag losses of an epoch."""
        self._learnt = Learnt(len(self.classes))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Hide instances, predict, take the losses."""
        labels = batch["label"]
        output = self(batch, self._hidden(batch))
        terms = self.loss_terms(output, labels)
        self._learnt.add(terms["bag_loss"], labels)
        self._since_line.append({name: term.detach() for name, term in terms.items()})
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it in a connector
        if (batch_idx + 1) % every == 0 or self.trainer.is_last_batch:
            lines, self._since_line = self._since_line, []  # of one bag each, mostly: alone they say little
            self.log_dict({f"train/{name}": torch.stack([line[name] for line in lines]).mean() for name in terms})
        return self.weigh(terms)

    def _hidden(self, batch: dict[str, Any]) -> MaskDraw | None:
        hiding, features = self.recipe.method.hiding, batch["features"]
        if self.sampler is None or self.global_step < hiding.warmup_epochs * self.steps_per_epoch:
            return None
        return self.sampler.draw(len(features), self.network.map_shape, features.device)

    def loss_terms(self, output: BagOutput, labels: Tensor) -> dict[str, Tensor]:
        """The parts of the loss, unweighted; only those that the network and the recipe have."""
        method = self.recipe.method
        terms = {"bag_loss": losses.bag_loss(output.bag_logits, labels)}
        if output.branch_logits is not None:
            assert output.attention is not None
            terms["branch_loss"] = losses.branch_loss(output.branch_logits, labels)
            terms["diversity_loss"] = losses.diversity_loss(output.attention)
        if output.instances is not None:
            terms["instance_loss"] = losses.clam_instance_loss(output.instances, labels)
        if method.entropy_weight:
            assert output.attention is not None
            terms["negative_entropy"] = losses.negative_entropy(output.attention)
        return terms

    def weigh(self, terms: dict[str, Tensor]) -> Tensor:
        """The loss that is trained on: its parts, weighted as the recipe says."""
        method = self.recipe.method
        weights = {
            "bag_loss": 1 - method.instance_weight,
            "branch_loss": method.branch_weight,
            "diversity_loss": method.diversity_weight,
            "instance_loss": method.instance_weight,
            "negative_entropy": method.entropy_weight,
        }
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimiser, with its schedule advanced at every optimiser step."""
        steps = {"total_steps": self.total_steps, "steps_per_epoch": self.steps_per_epoch}
        return configure_optimizers(self.network, self.recipe, self.trainer, **steps)

    def on_validation_epoch_start(self) -> None:
        """Begin an empty score sheet."""
        self._parts = []

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Score one batch."""
        self._score(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all processes together."""
        self._log_scores(scores.gather(self._parts, len(self.classes)), "val")

    def on_test_epoch_start(self) -> None:
        """Begin an empty score sheet, and an empty album of bags to show."""
        self._parts, self._groups = [], {}
        self._exhibits = Exhibits(self.recipe.data.encoder)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Score one batch and keep its most telling bags."""
        assert self._exhibits is not None
        output, rows = self._score(batch)
        self._exhibits.add(batch, output, rows)
        known = zip(batch["id"], batch.get("group") or [], strict=False)
        self._groups |= {name: group for name, group in known if group is not None}

    def on_test_epoch_end(self) -> None:
        """Log the metrics and prepare what the report shows."""
        assert self._exhibits is not None
        gathered = scores.gather(self._parts, len(self.classes))
        self._log_scores(gathered, self.test_split)
        groups = {name: group for part in gather_objects(self._groups) for name, group in part.items()}
        self.warnings = warnings_of(self.recipe, self._learnt, gathered)
        self._artefacts = [
            *result_artefacts(gathered, self.classes, self.test_split, self.warnings, groups),
            *self._exhibits.artefacts(self.classes, self.test_split),
        ]

    def artefacts(self) -> list[Artefact]:
        """What the last test pass has to show."""
        return self._artefacts

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> BagOutput:
        """What the network concludes of a batch."""
        output: BagOutput = self(batch)
        return output

    def _score(self, batch: dict[str, Any]) -> tuple[BagOutput, Tensor]:
        output = self(batch)
        rows = scores.score_batch(output, batch["label"], batch["padding_mask"])
        self._parts.append((batch["id"], rows))
        return output, rows

    def _log_scores(self, gathered: scores.Scores, split: str) -> None:
        values = {f"{split}/{name}": value for name, value in scores.metrics(gathered).items()}
        self.log_dict(values, rank_zero_only=False, sync_dist=False)
