"""Classification of bags by what attention finds in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from models.mil import losses
from models.mil.attention_maps import AttendedBag
from models.mil.bags import BagNetwork, BagOutput
from models.mil.networks import NETWORKS, published_width
from models.mil.published import adapt_published, strip_wrappers
from models.mil.stkim import InstanceMasking, MaskDraw, MaskSampler
from models.timm_attention import AttentionReceipt
from vision_train.artefacts import Artefact
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.seeds import derive_seed
from vision_train.tasks.bags import scores as sheet
from vision_train.tasks.bags.attended import AttendedBags, hottest_pictures
from vision_train.tasks.bags.collapse import warnings_of
from vision_train.tasks.bags.program import exported
from vision_train.tasks.bags.results import result_artefacts
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.class_balance import class_weights
from vision_train.tasks.class_curves import choose_thresholds
from vision_train.tasks.exported import Exported
from vision_train.tasks.learning import Learnt
from vision_train.tasks.predicted import Predicted, class_shares, likely_classes
from vision_train.tasks.scores import Scores, ScoreTable
from vision_train.wording import percent

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


class BagTask(Task):
    """Trains a network that maps bags of instances (B N D) to logits (B C).

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        classes: C class names, in the order of the labels.
    """

    network: BagNetwork

    def __init__(self, recipe: Recipe, network: BagNetwork, classes: Sequence[str]) -> None:
        attention = AttentionReceipt("auto", {}, {recipe.model.name: "pools bags in its own way"})
        super().__init__(recipe, network, classes, attention)
        self.heads = tuple(network.heads)
        self.heads_by_module = tuple(network.heads_by_module)
        self.metrics = (*sheet.METRICS, *(sheet.ATTENTION_METRICS if network.attends else ()))
        self.undrawn = "" if network.attends else "which pools bags without attention, so that there is nothing to draw"
        self.sampler = self._sampler_of(0)
        self._learnt = Learnt(len(self.classes))
        self._class_weights: Tensor | None = None
        self._since_line: list[dict[str, Tensor]] = []
        self._attended: AttendedBags | None = None

    def adapt_published(self, state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Translate published weights of ACMIL, CLAM and TransMIL; those of a part only lose their wrappers."""
        return adapt_published(state, network) if isinstance(network, BagNetwork) else strip_wrappers(state)

    def exported(self, size: tuple[int, int] | None) -> Exported:
        """One bag of any number of instances -> logits, probabilities and attention."""
        return exported(self.network, self.recipe, self.classes, size)

    def _sampler_of(self, rank: int) -> MaskSampler | None:
        hiding = self.recipe.method.hiding
        if hiding is None:
            return None
        masking = InstanceMasking(**{each.name: getattr(hiding, each.name) for each in fields(InstanceMasking)})
        return MaskSampler(masking, seed=derive_seed(self.recipe.seed, "hiding", rank))

    @property
    def notes(self) -> list[str]:
        """Terms that act on a network which was published without them, and hiding that hides nothing."""
        name, method = self.recipe.model.name, self.recipe.method
        added = {"hiding": (method.hiding, "null"), "entropy_weight": (method.entropy_weight, "0")}
        notes = [
            f"method.{key} acts on {name} too; method.{key}={without} trains it as published"
            for key, (value, without) in added.items()
            if value and not name.startswith("acmil")
        ]
        if self.sampler and method.hiding.mode == "exact" and not int(method.hiding.top_k * method.hiding.drop_ratio):
            notes.append("method.hiding hides nothing: top_k times drop_ratio is below 1")
        epochs = self.recipe.trainer.get("max_epochs") or math.inf
        if method.hiding and 0 < epochs <= method.hiding.warmup_epochs:
            notes.append("method.hiding hides nothing: method.hiding.warmup_epochs is as long as the training")
        return notes

    def seed_generators(self, rank: int) -> None:
        """Give the hiding of each process its own seed."""
        self.sampler = self._sampler_of(rank)

    def check_batch(self, size: int) -> None:
        """Any batch will do."""

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return {} if self.sampler is None else {"hiding": self.sampler.generator}

    def forward(self, batch: dict[str, Any], hidden: MaskDraw | None = None) -> BagOutput:
        """Output of the network for a batch of bags."""
        return self.network(batch["features"], batch["padding_mask"], hidden)

    def on_train_start(self) -> None:
        """Weigh the classes of the training bags."""
        weights = class_weights(self.recipe.method.class_weights, self.class_counts)
        self._class_weights = None if weights is None else weights.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Begin to note the bag losses of an epoch."""
        self._learnt = Learnt(len(self.classes))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Hide instances, predict, take the losses."""
        labels = batch["label"]
        output = self(batch, self._hidden(batch))
        terms = self.loss_terms(output, labels)
        weights = self._class_weights
        self._learnt.add(terms["bag_loss"], labels if weights is None else torch.diag(weights)[labels])
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
        """The parts of the loss, not yet weighed against one another; only those that the network and the recipe have.

        The classes of the bags weigh in the cross-entropies of bags and branches as ``method.class_weights`` says.
        """
        method, weights = self.recipe.method, self._class_weights
        terms = {"bag_loss": losses.bag_loss(output.bag_logits, labels, weights)}
        if output.branch_logits is not None:
            assert output.attention is not None
            terms["branch_loss"] = losses.branch_loss(output.branch_logits, labels, weights)
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

    def new_scores(self) -> ScoreTable:
        """An empty table for the numbers of each bag."""
        return ScoreTable(sheet.fields(len(self.classes)))

    def score(self, batch: Batch, loader: int = 0) -> tuple[BagOutput, Tensor]:
        """Score a batch; returns the network's output and the numbers of each bag."""
        output = self(batch)
        rows = sheet.score_batch(output, batch["label"], batch["padding_mask"])
        self.scores.add(batch["id"], rows, batch.get("group"))
        return output, rows

    def measure(self, scores: Scores) -> dict[str, float]:
        """Metrics of predictions, and of attention where there is one."""
        return sheet.metrics(scores)

    def calibrate(self, scores: Scores) -> dict[str, Any]:
        """Choose for each class the threshold of its probability, for who asks of that class alone."""
        return choose_thresholds(sheet.probabilities(scores), scores.column("label").long(), self.classes)

    def begin_gallery(self) -> None:
        """Begin to keep the attention of the most telling bags."""
        self._attended = AttendedBags(self.classes, self.recipe.data.encoder)

    def consider(self, batch: Batch, output: tuple[BagOutput, Tensor]) -> None:
        """Keep the attention of the most telling bags of a batch."""
        assert self._attended is not None
        self._attended.add(batch, *output)

    def conclude(self, scores: Scores, split: str, measured: Mapping[str, float]) -> list[Artefact]:
        """Tables, maps of attention, and warnings where little was learnt or attention collapsed."""
        assert self._attended is not None
        self.warnings, self.guesses = warnings_of(self.recipe, self._learnt, scores, split)
        results = result_artefacts(scores, self.classes, split, measured, self.warnings, self.calibration)
        return [*results, *self._attended.artefacts(split)]

    def predict_step(self, batch: Batch, batch_idx: int) -> BagOutput:
        """Output of the network for a batch."""
        output: BagOutput = self(batch)
        return output

    def predicted(self, batch: Batch, output: BagOutput) -> list[Predicted]:
        """The probability of each class for each bag, and where the network looks in it."""
        said = []
        for index, name in enumerate(batch["id"]):
            shares = output.bag_logits[index].double().softmax(dim=0)
            confidences, labels = shares.sort(descending=True, stable=True)
            top = {self.classes[at]: value for at, value in zip(labels.tolist(), confidences.tolist(), strict=True)}
            label, confidence = next(iter(top.items()))
            row = {"label": label, "confidence": confidence, "top": top}
            cells, drawing = class_shares(self.classes, shares.tolist()), f"{label} ({percent(confidence)})"
            said.append(
                Predicted(
                    name,
                    row,
                    self._drawing(batch, output, index, drawing),
                    cells,
                    sentence=likely_classes(top),
                )
            )
        return said

    def _drawing(self, batch: Batch, output: BagOutput, index: int, caption: str) -> AttendedBag | None:
        if output.branch_attention is None:
            return None
        attention = output.branch_attention[index].float().cpu().numpy()
        coords, features = batch["coords"][index], batch["features"][index]
        return AttendedBag(
            batch["id"][index],
            caption,
            attention,
            None if coords is None else coords.cpu().numpy(),
            batch["patch_size_level0"][index],
            hottest_pictures(features, attention, self.recipe.data.encoder),
        )
