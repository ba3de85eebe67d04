"""Grounding with TransVG or VLTVG: one box for each expression about an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.adapted import Adapted
from models.detr.published_backbones import adapt_backbone
from models.grounding.criterion import GroundingCriterion
from models.grounding.output import GroundingOutput
from models.grounding.published import adapt_grounder, adapt_visual, adapt_visual_alone, holds_visual_alone
from models.grounding.quantised import READOUTS
from models.text import adapt_bert
from models.timm_attention import AttentionReceipt
from vision_train.artefacts import Artefact
from vision_train.checkpoints import LoadReport
from vision_train.errors import UserError
from vision_train.previews import Pixels, Preview, PreviewRow
from vision_train.recipe.recipe import Recipe
from vision_train.semi.alike import alike_share
from vision_train.semi.answers import Answer
from vision_train.semi.box_health import BoxMonitor
from vision_train.semi.combine import BOX_WEIGHTS, weights_of
from vision_train.semi.consistency import capped
from vision_train.semi.label_file import PseudoLabel
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.exported import Exported
from vision_train.tasks.grounding.asked import ALIKE, answers_of, judged, labels_of
from vision_train.tasks.grounding.boxes import original_corners
from vision_train.tasks.grounding.build import GroundingNetwork, build_network
from vision_train.tasks.grounding.chance import chance_warnings
from vision_train.tasks.grounding.exhibits import artefacts, lacking
from vision_train.tasks.grounding.pool import KINDS, PhrasePool, confidences_of
from vision_train.tasks.grounding.predictions import predicted_box
from vision_train.tasks.grounding.preview import NOTE, preview_rows
from vision_train.tasks.grounding.program import exported
from vision_train.tasks.grounding.results import (
    ACCURACY,
    LEAST_IOU,
    METRICS,
    Corners,
    PhraseResult,
    Results,
    ResultTable,
    measure,
    overlaps,
    true_shares,
)
from vision_train.tasks.grounding.worst import WorstExpressions, darkened
from vision_train.tasks.image_network import installed_attention
from vision_train.tasks.predicted import Predicted
from vision_train.tasks.teaching import LABELLED, POOL, PSEUDO_LABELLED, Teaching


def build(recipe: Recipe, classes: list[str]) -> GroundingTask:
    """Build the network that a recipe names, and the task that trains it.

    Raises:
        UserError: The network does not exist or refuses its arguments, or its attention cannot be computed as asked.
    """
    network = build_network(recipe)
    return GroundingTask(recipe, network, installed_attention(network, recipe))


class GroundingTask(Task):
    """Trains a network that maps an image and an expression to a box.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        attention: What computes the attention of its encoders.
    """

    metrics = METRICS
    heads = ("box_head", "bin_head")
    label_metric = ACCURACY.name
    network: GroundingNetwork

    def __init__(self, recipe: Recipe, network: GroundingNetwork, attention: AttentionReceipt) -> None:
        super().__init__(recipe, network, [], attention)
        method = recipe.method
        self.criterion = GroundingCriterion(
            distance=method.distance_weight,
            giou=method.giou_weight,
            bins=method.bins_weight,
            target=method.bin_target,
        )
        if self.teaching is not None:
            self.teaching = Teaching(recipe.semi, KINDS, BoxMonitor, recipe.kind.noun)
        self.pool = PhrasePool(recipe) if self.teaching is not None else None
        self._worst: WorstExpressions | None = None

    def adapt_published(self, state: Mapping[str, Tensor], network: nn.Module) -> Adapted:
        """Translate a published network, or the part of one that a part of ours may start from."""
        if network is self.network and holds_visual_alone(state, network):
            return adapt_visual_alone(state, self.network)
        if isinstance(network, GroundingNetwork):
            return adapt_grounder(state, network)
        if network is self.network.visual:
            return adapt_visual(state, self.network.visual)
        if network is self.network.visual.backbone:
            return adapt_backbone(state, network)
        if network is self.network.text:
            return adapt_bert(state, network)
        return Adapted(state, state)

    def check_start(self, reports: Sequence[LoadReport], examples: int) -> None:
        """Refuse a network and a start that a pool would spoil; see :meth:`Teaching.check`."""
        if self.teaching is not None:
            self.teaching.check(self.network, self.start, self.recipe.model.name)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Find the boxes of a batch, and take all losses; add the loss of the pool."""
        labelled = batch.get(LABELLED, batch)
        loss = self._loss(labelled)
        if self.pool is not None:
            loss = loss + self.pool.learn(self, labelled, batch[POOL], loss)
        if (given := batch.get(PSEUDO_LABELLED)) is not None:
            loss = loss + capped(self.recipe.semi.weight * self._loss(given), loss)
        return loss

    def _loss(self, batch: Batch) -> Tensor:
        """All losses of expressions with boxes, weighted."""
        return torch.stack([*self.criterion(self.find(batch), batch["boxes"], batch.get("weight")).values()]).sum()

    def find(self, batch: Batch, *, with_attention: bool = False) -> GroundingOutput:
        """What the network says of a batch."""
        return self.network(*self.inputs(batch), with_attention=with_attention)

    @staticmethod
    def inputs(batch: Batch) -> tuple[Tensor, ...]:
        """What the network takes of a batch."""
        return tuple(batch[key] for key in ("image", "padding_mask", "tokens", "token_padding"))

    def new_scores(self) -> ResultTable:
        """An empty collection of the results of a pass."""
        return ResultTable()

    def score(self, batch: Batch, loader: int = 0) -> tuple[list[PhraseResult], GroundingOutput]:
        """Find the boxes of a batch and note them beside the true ones."""
        output = self.find(batch, with_attention=self._worst is not None)
        found, true = (self._corners(boxes, batch) for boxes in (output.boxes, batch["boxes"]))
        rows = zip(
            batch["text"],
            map(tuple, found.tolist()),
            map(tuple, true.tolist()),
            self._told(output),
            batch["group"],
            map(tuple, batch["size"]),
            batch["category"],
            strict=True,
        )
        results = [PhraseResult(*row) for row in rows]
        self.scores.add(batch["id"], results)
        return results, output

    def measure(self, scores: Results) -> dict[str, float]:
        """Accuracy and mean IoU."""
        return measure(scores)

    def calibrate(self, scores: Results) -> dict[str, Any]:
        """How alike the true boxes are, by which those of a pool are judged."""
        return {ALIKE: alike_share(true_shares(scores))}

    def judge_teaching(self, scores: Results, measured: Mapping[str, float]) -> dict[str, float]:
        """Judge what the teacher says of the pool by what it says of the validation expressions."""
        assert self.pool is not None
        assert self.teaching is not None
        self.teaching.note_score(self.global_step, measured[ACCURACY.name])
        origin = self.teaching.origin(confidences_of(scores))
        return self.teaching.judge(self.global_step, self.pool.reading(scores, measured), origin)

    def score_weights(self) -> Mapping[str, float]:
        """Robustness and faithfulness, or the scores that the recipe asks for.

        Raises:
            UserError: Confidence is asked for, and there is no head that it is read from.
        """
        weights = weights_of(wanted := self.recipe.semi.rounds.scores, BOX_WEIGHTS)
        if "confidence" in weights and self.network.bin_head is None:
            raise UserError(
                f"semi.rounds.scores={wanted}: confidence is that of a quantised head, which this network lacks; set "
                "model.args.bins"
            )
        return weights

    def pool_views(self, scores: Collection[str]) -> int:
        """Views beside that of validation, which robustness alone asks for."""
        return self.recipe.semi.views if "robustness" in scores else 0

    def answer_pool(self, ids: Sequence[str], views: Sequence[Batch], scores: Collection[str]) -> list[Answer]:
        """The box of each expression as in validation, and how far it may be trusted."""
        outputs = [self.find(view, with_attention=place == 0) for place, view in enumerate(views)]
        return answers_of(ids, views, outputs, self.confidences(outputs[0]))

    def label_pool(self, answers: Sequence[Sequence[Answer]]) -> list[PseudoLabel]:
        """The boxes that most of the networks find, in the order of the ids."""
        labels, warnings = judged(labels_of(answers), answers, self.calibration.get(ALIKE, math.nan))
        self.warnings += warnings
        return [*labels]

    def label_known(
        self, answers: Sequence[Sequence[Answer]], truths: Sequence[Any], pool: int
    ) -> tuple[list[PseudoLabel], list[bool]]:
        """The box that most of the networks find, and whether it overlaps the true one enough."""
        labels = labels_of(answers)
        found = np.array([each.boxes[0].corners if each.boxes else (0.0,) * 4 for each in labels]).reshape(-1, 4)
        true = np.array([truth.box for truth in truths], dtype=np.float64).reshape(-1, 4)
        return [*labels], (overlaps(found, true) >= LEAST_IOU[ACCURACY.name]).tolist()

    def begin_gallery(self) -> None:
        """Begin to keep the expressions that are missed furthest."""
        self._worst = WorstExpressions()

    def consider(self, batch: Batch, output: tuple[list[PhraseResult], GroundingOutput]) -> None:
        """Keep the expressions of a batch that are missed furthest."""
        assert self._worst is not None
        results, said = output

        def seen(place: int) -> tuple[Pixels, Pixels | None, np.ndarray]:
            inside = ~batch["padding_mask"][place]
            rows, columns = (inside.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
            window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            pixels, attended = self.pixels_of(batch["image"][place]), None
            if said.attention is not None:
                attended = darkened(pixels, said.attention[place].view(said.grid))[window]
            affine = batch["affine"][place].cpu().numpy().copy()
            affine[:2, 2] -= columns[0], rows[0]
            return pixels[window], attended, affine

        self._worst.add(batch["id"], results, seen)

    def conclude(self, scores: Results, split: str, measured: Mapping[str, float]) -> list[Artefact]:
        """Accuracy by length, what each expression adds, and the expressions that are missed furthest."""
        assert self._worst is not None
        guessing = chance_warnings(scores, split)
        self.warnings, self.guesses = [*lacking(scores), *guessing], bool(guessing)
        shown = [*artefacts(scores, split, self.warnings), *self._worst.pictures(split)]
        self._worst = None
        return shown

    def exported(self, size: tuple[int, int] | None) -> Exported:
        """An image in its square and the pieces of an expression -> a box."""
        return exported(self.network, self.recipe, self.confidences, size)

    def predict_step(self, batch: Batch, batch_idx: int) -> GroundingOutput:
        """The boxes of expressions without a truth."""
        return self.find(batch)

    def predicted(self, batch: Batch, output: GroundingOutput) -> list[Predicted]:
        """The box of each expression."""
        rows = zip(
            batch["id"],
            batch["text"],
            self._corners(output.boxes, batch),
            self._told(output),
            strict=True,
        )
        return [predicted_box(*row) for row in rows]

    def preview(self, batches: Iterator[Batch], count: int) -> Preview:
        """Training images with the box of their expression, before and after augmentation."""
        return replace(super().preview(batches, count), notes=[NOTE])

    def augmented_rows(self, batch: Batch) -> Iterator[PreviewRow]:
        """A row for each expression of a batch."""
        return preview_rows(self, batch.get(LABELLED, batch))

    def _corners(self, boxes: Tensor, batch: Batch) -> Corners:
        return original_corners(boxes, batch["image"].shape[-1], batch["affine"], batch["size"])

    def confidences(self, output: GroundingOutput) -> Tensor:
        """How sure the network is of each box (B float32), in (0, 1]; 1 without a quantised head."""
        if output.bin_logits is None:
            return torch.ones_like(output.boxes[:, 0])
        read: Callable[[Tensor], Tensor] = READOUTS[self.recipe.method.confidence]
        return read(output.bin_logits.softmax(dim=-1))

    def _told(self, output: GroundingOutput) -> list[float]:
        """The same for tables, where NaN says that there is no such head."""
        told: list[float] = self.confidences(output).tolist()
        return told if output.bin_logits is not None else [math.nan] * len(told)
