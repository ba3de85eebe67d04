"""Training the visual branch of a grounding network on images with boxes, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial

import torch
from torch import Tensor, nn

from models.adapted import Adapted
from models.detr.published_backbones import adapt_backbone
from models.grounding.dense import (
    CellTargets,
    DenseDetector,
    DenseOutput,
    boxes_in_cells,
    cell_targets,
    dense_losses,
    placed_anew,
    without_needless_padding,
)
from models.grounding.encoder import EncoderSizes
from models.grounding.published import adapt_visual
from models.grounding.visual import VisualBranch
from models.timm_attention import AttentionReceipt
from vision_train.artefacts import Artefact
from vision_train.errors import UserError
from vision_train.previews import Preview, PreviewRow
from vision_train.recipe.recipe import Recipe
from vision_train.seeds import derive_seed
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.box_preview import NOTE, preview_rows
from vision_train.tasks.dense_detection.scores import FIELDS, METRICS, artefacts, metrics, score_batch
from vision_train.tasks.exported import Exported
from vision_train.tasks.image_network import installed_attention
from vision_train.tasks.image_program import draw_images
from vision_train.tasks.scores import Scores, ScoreTable
from vision_train.tasks.single_map import KEYS, build_backbone, stride_of

NETWORK = "visual_branch"


def build(recipe: Recipe, classes: list[str]) -> DenseDetectionTask:
    """Build the network that a recipe names, and the task that trains it.

    Raises:
        UserError: The network does not exist or refuses its arguments, or its attention cannot be computed as asked.
    """
    if recipe.model.name != NETWORK:
        raise UserError(
            f"model.name={recipe.model.name}: there is {NETWORK} alone; name its backbone by model.args.backbone"
        )
    network = DenseDetector(_build_visual(recipe), len(classes))
    return DenseDetectionTask(recipe, network, classes, installed_attention(network, recipe))


def _build_visual(recipe: Recipe) -> VisualBranch:
    args = recipe.model.args
    known = [field.name for field in fields(EncoderSizes)]
    if unknown := sorted(args.keys() - {*known, *KEYS}):
        raise UserError(f"model.args.{unknown[0]}: unknown; there are {', '.join((*KEYS, *known))}")
    try:
        sizes = EncoderSizes(**{name: args[name] for name in known if name in args})
    except ValueError as error:
        raise UserError(f"model.args.{error}") from error
    backbone, channels = build_backbone(args)
    return VisualBranch(backbone, channels, sizes)


class DenseDetectionTask(Task):
    """Trains a network that says of each cell of an image what covers its middle, and where the edges of that lie.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        classes: C class names, in the order of the labels.
        attention: What computes the attention of its encoder.
    """

    metrics = METRICS
    heads = ("class_head",)
    network: DenseDetector

    def __init__(
        self, recipe: Recipe, network: DenseDetector, classes: Sequence[str], attention: AttentionReceipt
    ) -> None:
        super().__init__(recipe, network, classes, attention)
        self.stride = stride_of(recipe.model.args)
        self._places = torch.Generator()
        self.seed_generators(0)

    def seed_generators(self, rank: int) -> None:
        """Give the places of images in each process their own seed."""
        self._places.manual_seed(derive_seed(self.recipe.seed, f"places of process {rank}"))

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return {"places": self._places}

    def adapt_published(self, state: Mapping[str, Tensor], network: nn.Module) -> Adapted:
        """Translate the weights of a visual branch or of its backbone."""
        if network is self.network.visual:
            return adapt_visual(state, self.network.visual)
        if network is self.network.visual.backbone:
            return adapt_backbone(state, network)
        return Adapted(state, state)

    def exported(self, size: tuple[int, int] | None) -> Exported:
        """The network with its inputs; a program of it would serve nobody."""
        side = 2 * self.stride
        return Exported(
            _Program(self.network.cpu().float()).eval(),
            partial(_drawn, size or (side, side)),
            ("logits", "edges"),
            {"task": self.recipe.task, "model": self.recipe.model.name, "classes": self.classes},
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Say what covers the cells of a batch whose images lie anywhere in the frame, and take both losses."""
        losses = dense_losses(*self.compare(batch, self._places))
        return losses["classes"] + self.recipe.method.edge_weight * losses["edges"]

    def compare(self, batch: Batch, places: torch.Generator | None = None) -> tuple[DenseOutput, CellTargets]:
        """What the network says of the cells of a batch, and what it should say.

        Args:
            batch: Images with boxes.
            places: Draws where each image lies in the frame, as in training on expressions; None leaves them.
        """
        images, padding_mask = without_needless_padding(batch["image"], batch["padding_mask"], self.stride)
        if places is not None:
            images, padding_mask = placed_anew(images, padding_mask, places)
        output = self.network(images, padding_mask)
        boxes, ignored = (boxes_in_cells(batch[key], padding_mask, output.grid) for key in ("boxes", "ignore"))
        targets = cell_targets(
            boxes, batch["class_ids"], ignored, output.padding, output.grid, nothing=len(self.classes)
        )
        return output, targets

    def new_scores(self) -> ScoreTable:
        """An empty table for the numbers of each image."""
        return ScoreTable(FIELDS)

    def score(self, batch: Batch, loader: int = 0) -> None:
        """Note how many cells of each image of a batch are named and placed right."""
        self.scores.add(batch["id"], score_batch(*self.compare(batch)), batch.get("group"))

    def measure(self, scores: Scores) -> dict[str, float]:
        """Shares of cells named right, and the mean IoU of their boxes."""
        return metrics(scores)

    def conclude(self, scores: Scores, split: str, measured: Mapping[str, float]) -> list[Artefact]:
        """What was counted, and each image's own numbers."""
        return artefacts(scores, split, measured)

    def preview(self, batches: Iterator[Batch], count: int) -> Preview:
        """Training images with their boxes, before and after augmentation."""
        return replace(super().preview(batches, count), notes=[NOTE])

    def augmented_rows(self, batch: Batch) -> Iterator[PreviewRow]:
        """A row for each image of a batch."""
        return preview_rows(self, batch)


class _Program(nn.Module):
    """What the network says of the cells of images."""

    def __init__(self, network: DenseDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        said = self.network(image, padding_mask)
        return said.logits, said.edges


def _drawn(size: tuple[int, int], generator: torch.Generator) -> dict[str, Tensor]:
    return {**draw_images(size, generator), "padding_mask": torch.zeros(2, *size, dtype=torch.bool)}
