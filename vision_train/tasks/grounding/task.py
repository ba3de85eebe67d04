"""Grounding with TransVG or VLTVG: one box for each expression about an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.adapted import Adapted
from models.detr.published_backbones import adapt_backbone
from models.grounding.criterion import GroundingCriterion
from models.grounding.output import GroundingOutput
from models.grounding.published import adapt_grounder, adapt_visual
from models.grounding.quantised import READOUTS
from models.grounding.transvg import TransVG
from models.text import adapt_bert
from models.timm_attention import AttentionReceipt, install_attention
from vision_train.artefacts import Artefact
from vision_train.errors import UserError
from vision_train.previews import Pixels, Preview, PreviewRow
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.grounding.boxes import original_corners
from vision_train.tasks.grounding.build import GroundingNetwork, build_network
from vision_train.tasks.grounding.exhibits import artefacts, lacking
from vision_train.tasks.grounding.predictions import predicted_box
from vision_train.tasks.grounding.preview import NOTE, preview_rows
from vision_train.tasks.grounding.results import METRICS, Corners, PhraseResult, Results, ResultTable, measure
from vision_train.tasks.grounding.worst import WorstExpressions, darkened
from vision_train.tasks.predicted import Predicted


def build(recipe: Recipe, classes: list[str]) -> GroundingTask:
    """Build the network that a recipe names, and the task that trains it.

    Raises:
        UserError: The network does not exist or refuses its arguments, or its attention cannot be computed as asked.
    """
    network = build_network(recipe)
    try:
        receipt = install_attention(network, recipe.model.attention)
    except ValueError as error:
        raise UserError(f"model.attention={recipe.model.attention}: {error}") from error
    return GroundingTask(recipe, network, receipt)


class GroundingTask(Task):
    """Trains a network that maps an image and an expression to a box.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        attention: What computes the attention of its encoders.
    """

    metrics = METRICS
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
        self._worst: WorstExpressions | None = None

    def adapt_published(self, state: Mapping[str, Tensor], network: nn.Module) -> Adapted:
        """Translate a published network, or the part of one that a part of ours may start from."""
        if isinstance(network, TransVG):
            return adapt_grounder(state, network)
        if network is self.network.visual:
            return adapt_visual(state, self.network.visual)
        if network is self.network.visual.backbone:
            return adapt_backbone(state, network)
        if network is self.network.text:
            return adapt_bert(state, network)
        return Adapted(state, state)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Find the boxes of a batch, and take all losses."""
        return torch.stack([*self.criterion(self.find(batch), batch["boxes"]).values()]).sum()

    def find(self, batch: Batch, *, with_attention: bool = False) -> GroundingOutput:
        """What the network says of a batch."""
        return self.network(
            *(batch[key] for key in ("image", "padding_mask", "tokens", "token_padding")),
            with_attention=with_attention,
        )

    def new_scores(self) -> ResultTable:
        """An empty collection of the results of a pass."""
        return ResultTable()

    def score(self, batch: Batch, loader: int = 0) -> tuple[list[PhraseResult], GroundingOutput]:
        """Find the boxes of a batch and note them beside the true ones."""
        output = self.find(batch, with_attention=self._worst is not None)
        found, true = (self._corners(boxes, batch) for boxes in (output.boxes, batch["boxes"]))
        texts, sure = batch["text"], self._confidences(output)
        rows = zip(texts, found.tolist(), true.tolist(), sure, batch["group"], batch["category"], strict=True)
        results = [PhraseResult(text, tuple(box), tuple(truth), *others) for text, box, truth, *others in rows]
        self.scores.add(batch["id"], results)
        return results, output

    def measure(self, scores: Results) -> dict[str, float]:
        """Accuracy and mean IoU."""
        return measure(scores)

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
        shown = [*artefacts(scores, split), *self._worst.pictures(split)]
        self._worst, self.warnings = None, lacking(scores)
        return shown

    def predict_step(self, batch: Batch, batch_idx: int) -> GroundingOutput:
        """The boxes of expressions without a truth."""
        return self.find(batch)

    def predicted(self, batch: Batch, output: GroundingOutput) -> list[Predicted]:
        """The box of each expression."""
        rows = zip(
            batch["id"],
            batch["text"],
            self._corners(output.boxes, batch),
            self._confidences(output),
            strict=True,
        )
        return [predicted_box(*row) for row in rows]

    def preview(self, batches: Iterator[Batch], count: int) -> Preview:
        """Training images with the box of their expression, before and after augmentation."""
        return replace(super().preview(batches, count), notes=[NOTE])

    def augmented_rows(self, batch: Batch) -> Iterator[PreviewRow]:
        """A row for each expression of a batch."""
        return preview_rows(self, batch.get("labelled", batch))

    def _corners(self, boxes: Tensor, batch: Batch) -> Corners:
        return original_corners(boxes, batch["image"].shape[-1], batch["affine"], batch["size"])

    def _confidences(self, output: GroundingOutput) -> Sequence[float]:
        if output.bin_logits is None:
            return [math.nan] * len(output.boxes)
        read: Any = READOUTS[self.recipe.method.confidence]
        return read(output.bin_logits.softmax(dim=-1)).tolist()
