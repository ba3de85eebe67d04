"""Image classification with soft targets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention_row import attention_source
from models.lora import projections
from models.timm_attention import AttentionReceipt
from models.vit import adapt_published, head_names, pooling_words
from vision_train.artefacts import Artefact
from vision_train.checkpoints import LoadReport
from vision_train.errors import UserError
from vision_train.previews import Bars, Preview
from vision_train.recipe.recipe import Recipe
from vision_train.semi.answers import Answer
from vision_train.semi.combine import CLASS_WEIGHTS, weights_of
from vision_train.semi.consistency import capped
from vision_train.semi.label_file import PseudoLabel
from vision_train.semi.pseudo_labels import PseudoLabels, pseudo_label_loss, teacher_probabilities
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.chance import chance_warnings
from vision_train.tasks.class_balance import class_weights
from vision_train.tasks.class_curves import choose_thresholds, probability_fields
from vision_train.tasks.classification import asked
from vision_train.tasks.classification import scores as sheet
from vision_train.tasks.classification.mixing import BatchMixing, MixedStep
from vision_train.tasks.classification.pool import ACCEPTED, PoolLearning
from vision_train.tasks.classification.preview import preview_mixing
from vision_train.tasks.classification.telling import TellingImages
from vision_train.tasks.exported import Exported
from vision_train.tasks.image_network import build_image_network, installed_attention
from vision_train.tasks.image_program import image_program, timm_call_of
from vision_train.tasks.learning import Learnt
from vision_train.tasks.predicted import Predicted, class_shares, likely_classes
from vision_train.tasks.scores import Scores, ScoreTable
from vision_train.tasks.teaching import LABELLED, POOL, PSEUDO_LABELLED
from vision_train.wording import first_named

TOP = 5
"""Classes named for each predicted image."""


def build(recipe: Recipe, classes: Sequence[str]) -> ClassificationTask:
    """Build the network that a recipe names and the task that trains it.

    Args:
        recipe: A checked recipe whose task is ``classification``.
        classes: K class names, in the order of the labels.

    Raises:
        UserError: The model does not exist, refuses its arguments or does not take images of this size; its attention
            cannot be computed as asked; the mixing does not suit it.
    """
    network = build_image_network(recipe, len(classes))
    kind = ClassificationTask
    if recipe.data.multi_label:
        from vision_train.tasks.classification.multi_label import MultiLabelTask as kind  # it is a child of this class
    return kind(recipe, network, classes, installed_attention(network, recipe))


class ClassificationTask(Task):
    """Trains a network that maps images (B C H W) to logits (B K) by cross-entropy against soft targets.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        classes: K class names, in the order of the labels.
        attention: What computes the network's attention.

    Raises:
        UserError: The recipe's mixing does not suit the network.
    """

    label_metric = "accuracy"

    def __init__(self, recipe: Recipe, network: nn.Module, classes: Sequence[str], attention: AttentionReceipt) -> None:
        super().__init__(recipe, network, classes, attention)
        self.heads = tuple(head_names(network))
        # Among up to five classes the right one is always one of the first five.
        self.metrics = tuple(
            replace(metric, shown="never") if metric is sheet.TOP5 and len(classes) <= 5 else metric
            for metric in (*sheet.METRICS, *([sheet.AUROC] if len(classes) == 2 else []))
        )
        self.named_by, self._not_timm = timm_call_of(recipe, len(classes))
        self.mixing = BatchMixing(recipe, network, len(classes))
        self.telling: TellingImages | None = None
        self._learnt = Learnt(len(self.classes))
        self._class_weights: Tensor | None = None
        self.pool = PoolLearning(recipe, classes) if self.teaching is not None else None
        self._not_adapted: list[str] = []
        self._since_line: list[Tensor] = []

    @property
    def notes(self) -> list[str]:
        """Which layers of attention adapters leave out."""
        if not self._not_adapted:
            return []
        layers = first_named(self._not_adapted)
        return [f"model.lora: adapts all linear layers of attention and MLPs but those that are never called: {layers}"]

    def adapt_published(self, state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Translate published weights of a vision transformer or Swin."""
        return adapt_published(state, network)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B K) of normalised images (B C H W)."""
        return self.network(images)

    def adaptable_layers(self) -> list[str]:
        """Linear layers of attention and MLPs, as far as the network calls them."""
        height, width = self.recipe.data.height_and_width
        try:
            called, silent = projections(self.network, (3, height, width))
        except ValueError as error:
            raise UserError(f"model.lora: {error}; leave it null") from error
        self._not_adapted = silent
        return called

    def check_batch(self, size: int) -> None:
        """Refuse training batches of so few images that they cannot be mixed.

        Raises:
            UserError: They cannot be.
        """
        self.mixing.check_batch(size)

    def check_start(self, reports: Sequence[LoadReport], examples: int) -> None:
        """Refuse networks and starts that a pool would spoil.

        Raises:
            UserError: See :meth:`vision_train.tasks.teaching.Teaching.check`.
        """
        if self.teaching is not None:
            self.teaching.check(self.network, self.start, self.recipe.model.name)

    def encoder(self) -> tuple[Callable[[Tensor], Tensor], str]:
        """The network without its classifier."""
        cast(Any, self.network).reset_classifier(0)
        return self.network, pooling_words(self.network)

    def exported(self, size: tuple[int, int] | None) -> Exported:
        """Normalised images -> logits."""
        return image_program(
            self.recipe,
            self.network,
            lambda network, image: network(image),
            size,
            output=("logits", "batch x classes, float32; their softmax is the probability of each of `classes`"),
            card={"classes": self.classes},
            timm=(self.named_by, self._not_timm),
            state=self.network.state_dict(),
            pipeline="image-classification",
        )

    def seed_generators(self, rank: int) -> None:
        """Give the mixing of each process its own seed."""
        self.mixing.mixer = self.mixing.mixer_of(rank)

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return self.mixing.random_generators()

    def on_train_start(self) -> None:
        """Weigh the classes of the training images, and set how fast averages over the pool follow."""
        if self.pool is not None:
            self.pool.begin(self.total_steps)
        weights = class_weights(self.recipe.method.class_weights, self.class_counts)
        self._class_weights = None if weights is None else weights.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Begin to note the losses of an epoch."""
        self._learnt = Learnt(len(self.classes))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mix the labelled batch, predict, take the cross-entropy; add the loss of the pool."""
        labelled, pool = batch.get(LABELLED, batch), batch.get(POOL)
        adds = pool is not None and self.teaching is not None and self.teaching.adds(self.global_step)
        strong = pool["strong"]["image"] if pool is not None and adds else None
        pseudo_labelled = batch.get(PSEUDO_LABELLED)
        if pseudo_labelled is not None:
            strong = pseudo_labelled["image"]
        step = self.mixing.step(self.network, labelled["image"], labelled["label"], beside=strong)
        loss = self.labelled_loss(step)
        if pool is not None or pseudo_labelled is not None:
            self._note_labelled(loss, batch_idx)
        if pseudo_labelled is not None and step.beside is not None:
            labels = PseudoLabels(pseudo_labelled["target"], pseudo_labelled["weight"])
            loss = loss + capped(self.recipe.semi.weight * pseudo_label_loss(step.beside, labels), loss)
        if pool is not None and self.pool is not None:
            loss = loss + self.pool.learn(self, pool, step.beside, loss)
        return loss

    def labelled_loss(self, step: MixedStep) -> Tensor:
        """The cross-entropy of a labelled batch, which is noted beside what guessing would have."""
        weights = self._class_weights
        # Against soft targets torch averages over images, not over weights.
        loss = functional.cross_entropy(step.logits, step.targets, weights)
        self._learnt.add(loss, step.targets if weights is None else step.targets * weights)
        return loss

    def _note_labelled(self, loss: Tensor, batch_idx: int) -> None:
        """Log the loss of labelled images alone, the mean since the last line, beside the sum that is minimised."""
        if self._trainer is None:
            return
        self._since_line.append(loss.detach())
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it in a connector
        if (batch_idx + 1) % every == 0 or self.trainer.is_last_batch:
            lines, self._since_line = self._since_line, []
            self.log(f"train/{sheet.LABELLED_LOSS}", torch.stack(lines).mean())

    def new_scores(self) -> ScoreTable:
        """An empty table for the numbers of each image."""
        accepted = () if self.pool is None else (ACCEPTED,)
        return ScoreTable((*sheet.FIELDS, *accepted, *probability_fields(len(self.classes))))

    def score(self, batch: Batch, loader: int = 0) -> Tensor:
        """Score a batch; returns its numbers (B x 5)."""
        logits = self(batch["image"])
        rows = sheet.score_batch(logits, batch["label"])
        noted = [rows]
        if self.pool is not None:
            noted.append(self.pool.accepts(teacher_probabilities(logits))[:, None].to(rows))
        if probability_fields(len(self.classes)):
            noted.append(logits.detach().float().softmax(dim=1).to(rows))
        self.scores.add(batch["id"], torch.cat(noted, dim=1), batch.get("group"))
        return rows

    def calibrate(self, scores: Scores) -> dict[str, Any]:
        """Choose for each class the threshold of its probability, for who asks of that class alone."""
        kept = sheet.probabilities(scores)
        return {} if kept is None else choose_thresholds(kept, scores.column("label").long(), self.classes)

    def judge_teaching(self, scores: Scores, measured: Mapping[str, float]) -> dict[str, float]:
        """Judge what the teacher says of the pool by what it says of the validation images."""
        assert self.pool is not None
        assert self.teaching is not None
        accuracy = measured["accuracy"]
        self.teaching.note_score(self.global_step, accuracy)
        reading = self.pool.reading(scores, accuracy)
        origin = self.teaching.origin(scores.column("confidence"))
        return self.teaching.judge(self.global_step, reading, origin)

    def measure(self, scores: Scores) -> dict[str, float]:
        """Loss, accuracies, F1 and calibration error."""
        return sheet.metrics(scores)

    def begin_gallery(self) -> None:
        """Begin to keep the worst mistakes, and the images that tell most about where the network looks."""
        self.telling = TellingImages(self.network, self.recipe.data.height_and_width, self.pixels_of)

    def consider(self, batch: Batch, output: Tensor) -> None:
        """Keep the wrongly classified images with the highest loss, and where the network looks."""
        rows = output.cpu()
        label, predicted, loss = (rows[:, sheet.FIELDS.index(name)] for name in ("label", "predicted", "loss"))
        if self.telling is not None:
            self.telling.consider(batch, label != predicted, loss, lambda at: sheet.said_of(rows[at], self.classes))

    def conclude(self, scores: Scores, split: str, measured: Mapping[str, float]) -> list[Artefact]:
        """Tables, confusion, reliability and the worst mistakes, and a warning where guessing would do as well."""
        likely, labels = (scores.column(name).long() for name in ("predicted", "label"))
        self.warnings = chance_warnings(likely, labels, split, self._learnt, self.recipe.kind.noun)
        self.guesses = bool(self.warnings)
        results = sheet.artefacts(scores, self.classes, split, measured, self.warnings, self.calibration)
        shown = [] if self.telling is None else self.telling.artefacts(split, sheet.MISTAKES)
        return [*results, *shown]

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Class probabilities (B K) in float32."""
        return self(batch["image"]).float().softmax(dim=1)

    def predicted(self, batch: Batch, output: Tensor) -> list[Predicted]:
        """The likeliest classes of each image."""
        confidences, labels = output.topk(min(TOP, len(self.classes)), dim=1)
        said = []
        columns = zip(batch["id"], output.tolist(), confidences.tolist(), labels.tolist(), strict=True)
        for name, shares, values, indices in columns:
            top = [(self.classes[index], value) for index, value in zip(indices, values, strict=True)]
            label, confidence = top[0]
            row = {"label": label, "confidence": confidence, "top": dict(top)}
            cells, sentence = class_shares(self.classes, shares), likely_classes(dict(top))
            said.append(Predicted(name, row, Bars(top), cells, sentence=sentence))
        return said

    def score_weights(self) -> Mapping[str, float]:
        """Confidence alone, or the scores that the recipe asks for.

        Raises:
            UserError: Faithfulness is asked for, and the network has no attention to its patches.
        """
        weights = weights_of(asked_for := self.recipe.semi.rounds.scores, CLASS_WEIGHTS)
        if "faithfulness" in weights:
            try:
                attention_source(self.network, self.recipe.data.height_and_width)
            except ValueError as error:
                raise UserError(f"semi.rounds.scores={asked_for}: {error}; set it to default") from error
        return weights

    def answer_pool(self, ids: Sequence[str], views: Sequence[Batch], scores: Collection[str]) -> list[Answer]:
        """Mean probabilities over the views, and what scores are wanted."""
        images, size = [view["image"] for view in views], self.recipe.data.height_and_width
        grid = attention_source(self.network, size).grid if "faithfulness" in scores else (1, 1)
        return asked.answer(self.network, ids, images, scores, grid)

    def label_pool(self, answers: Sequence[Sequence[Answer]]) -> list[PseudoLabel]:
        """The class with most votes, in the order of the answers."""
        labels = asked.labels_of(answers, self.classes, self.recipe.semi.class_cap)
        labels, warnings = asked.judged(labels, self.classes, self.class_counts)
        self.warnings += warnings
        return labels

    def label_known(
        self, answers: Sequence[Sequence[Answer]], truths: Sequence[Any], pool: int
    ) -> tuple[list[PseudoLabel], list[bool]]:
        """The class with most votes; a cap on the labels of a class takes the share of it that these images are."""
        cap = self.recipe.semi.class_cap
        in_proportion = None if cap is None else max(1, round(cap * len(truths) / pool))
        labels = asked.labels_of(answers, self.classes, in_proportion)
        return labels, [each.label == truth for each, truth in zip(labels, truths, strict=True)]

    def label_words(self, labels: Tensor) -> list[str]:
        """The labels of a batch in words."""
        return [self.classes[label] for label in labels.tolist()]

    def preview(self, batches: Iterator[Batch], count: int) -> Preview:
        """Training images augmented and mixed, every kind of mixing in some row."""
        return preview_mixing(self, batches, count)
