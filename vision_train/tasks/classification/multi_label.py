"""Image classification where an image bears any number of classes: a yes or no for each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.timm_attention import AttentionReceipt
from vision_train.artefacts import Artefact
from vision_train.data.kind import BETWEEN_LABELS
from vision_train.previews import Bars
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.base import Batch
from vision_train.tasks.chance import LEARN_MORE
from vision_train.tasks.class_curves import THRESHOLDS
from vision_train.tasks.classification import multi_label_scores as sheet
from vision_train.tasks.classification.mixing import MixedStep
from vision_train.tasks.classification.task import TOP, ClassificationTask
from vision_train.tasks.exported import Exported
from vision_train.tasks.image_program import image_program
from vision_train.tasks.predicted import Predicted, likely_classes, named_shares
from vision_train.tasks.scores import Scores, ScoreTable
from vision_train.wording import count_of


class MultiLabelTask(ClassificationTask):
    """Trains a network that maps images (B C H W) to logits (B K) by binary cross-entropy of each class.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        classes: K class names, in the order of the targets.
        attention: What computes the network's attention.

    Raises:
        UserError: The recipe's mixing does not suit the network.
    """

    label_metric = ""

    def __init__(self, recipe: Recipe, network: nn.Module, classes: Sequence[str], attention: AttentionReceipt) -> None:
        super().__init__(recipe, network, classes, attention)
        self.metrics = sheet.METRICS
        self._presence_weights: Tensor | None = None

    def exported(self, size: tuple[int, int] | None) -> Exported:
        """Normalised images -> logits."""
        return image_program(
            self.recipe,
            self.network,
            lambda network, image: network(image),
            size,
            output=(
                "logits",
                "batch x classes, float32; the sigmoid of each is the probability of that class by itself",
            ),
            card={
                "classes": self.classes,
                "problem_type": "multi_label_classification",
                "thresholds": self._thresholds().tolist(),
            },
            timm=(self.named_by, self._not_timm),
            state=self.network.state_dict(),
            pipeline="image-classification",
        )

    def on_train_start(self) -> None:
        """Weigh the presence of each class by how many training images are known to lack it for each that bears it."""
        if self.recipe.method.class_weights == "none":
            return
        truths = [sample.truth for sample in cast(Any, self.trainer).datamodule.samples("train")]
        present = Counter(name for truth in truths for name in truth.present)
        unknown = Counter(name for truth in truths for name in truth.unknown)
        borne = torch.tensor([present[name] for name in self.classes], dtype=torch.float64)
        lacked = len(truths) - borne - torch.tensor([unknown[name] for name in self.classes])
        self._presence_weights = (lacked / borne.clamp_min(1)).float().to(self.device)

    def labelled_loss(self, step: MixedStep) -> Tensor:
        """The binary cross-entropy, averaged over images and classes that are known."""
        losses = sheet.image_losses(step.logits, step.targets, self._presence_weights)
        return losses.sum() / step.targets.isfinite().sum().clamp_min(1)

    def new_scores(self) -> ScoreTable:
        """An empty table for the numbers of each image."""
        return ScoreTable(sheet.fields(len(self.classes)))

    def score(self, batch: Batch, loader: int = 0) -> Tensor:
        """Score a batch; returns its numbers."""
        rows = sheet.score_batch(self(batch["image"]), batch["label"])
        self.scores.add(batch["id"], rows, batch.get("group"))
        return rows

    def calibrate(self, scores: Scores) -> dict[str, Any]:
        """Choose for each class the threshold of its probability from which on it is predicted."""
        return sheet.choose_thresholds(scores, self.classes)

    def measure(self, scores: Scores) -> dict[str, float]:
        """Loss, mAP, mean AUROC and F1."""
        return sheet.metrics(scores, self.classes, self.calibration)

    def consider(self, batch: Batch, output: Tensor) -> None:
        """Keep the images with the highest loss whose labels are wrong, and where the network looks."""
        if self.telling is None:
            return
        rows = output.cpu()
        count = len(self.classes)
        truths = rows[:, 1 + count :]
        claimed = (rows[:, 1 : 1 + count] >= 0.5).to(truths)
        wrong = ((claimed != truths) & (truths != sheet.UNKNOWN)).any(dim=1)
        self.telling.consider(batch, wrong, rows[:, 0], lambda place: self._said_of(truths[place], claimed[place]))

    def _said_of(self, truth: Tensor, claimed: Tensor) -> str:
        """The labels of an image, and what was missed and seen in vain."""
        parts = [self._joined(truth == 1) or "none of the classes"]
        for words, of in (("missed", (truth == 1) & (claimed == 0)), ("seen in vain", (truth == 0) & (claimed == 1))):
            parts += [f"{words} {names}"] if (names := self._joined(of)) else []
        return "; ".join(parts)

    def _joined(self, of: Tensor, between: str = ", ") -> str:
        return between.join(self.classes[index] for index in of.nonzero().flatten().tolist())

    def conclude(self, scores: Scores, split: str, measured: Mapping[str, float]) -> list[Artefact]:
        """Tables, curves and the worst mistakes, and a warning where guessing would do as well."""
        reached, luck = measured[sheet.AUROC.name], sheet.lucky(scores)
        self.guesses = not math.isnan(luck) and not reached > luck
        self.warnings = []
        if self.guesses:
            images = count_of(len(scores.ids), self.recipe.kind.noun)
            self.warnings.append(
                f"mean AUROC on {split} is {reached:.3f}, which {images} cannot tell from guessing (0.5). "
                f"{LEARN_MORE}; or put more images into the split"
            )
        results = sheet.artefacts(scores, self.classes, split, measured, self.warnings, self.calibration)
        shown = [] if self.telling is None else self.telling.artefacts(split, sheet.MISTAKES)
        return [*results, *shown]

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Probability of each class by itself (B K) in float32."""
        return self(batch["image"]).float().sigmoid()

    def prediction_notes(self) -> list[str]:
        """From which probability on a class is predicted."""
        if not self.calibration.get(THRESHOLDS):
            return ["a class is predicted from a probability of 0.5 on; no validation chose a threshold"]
        named = [f"{name} {cut:.2f}" for name, cut in zip(self.classes, self._thresholds().tolist(), strict=True)]
        shown = ", ".join([*named[:TOP], *(["..."] if len(named) > TOP else [])])
        return [f"a class is predicted from the probability on that validation chose for it by F1: {shown}"]

    def predicted(self, batch: Batch, output: Tensor) -> list[Predicted]:
        """The classes of each image whose probability reaches their threshold, and all probabilities."""
        claimed = output.double().cpu() >= self._thresholds()
        said = []
        for name, shares, of in zip(batch["id"], output.tolist(), claimed, strict=True):
            top = dict(sorted(zip(self.classes, shares, strict=True), key=lambda pair: -pair[1])[:TOP])
            labels = [self.classes[index] for index in of.nonzero().flatten().tolist()]
            row = {"label": BETWEEN_LABELS.join(labels), "labels": labels, "top": top}
            cells = named_shares({"label": row["label"]}, self.classes, shares)
            there = {each: share for each, share in zip(self.classes, shares, strict=True) if each in labels}
            sentence = likely_classes(there) or f"none of the classes (likeliest: {likely_classes(top)})"
            said.append(Predicted(name, row, Bars([*top.items()]), cells, sentence=sentence))
        return said

    def _thresholds(self) -> Tensor:
        return sheet.thresholds(self.calibration, self.classes)

    def label_words(self, labels: Tensor) -> list[str]:
        """The labels of a batch in words."""
        return [self._joined(row == 1, " + ") or "none" for row in labels]
