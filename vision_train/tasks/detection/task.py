"""Detection with Relation-DETR and, by switches of it, DINO."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from models.adapted import Adapted
from models.detr.backbones import build_backbone
from models.detr.criterion import Criterion
from models.detr.denoising import DenoisingGenerator, Target
from models.detr.encoder import Encoder
from models.detr.neck import ChannelMapper
from models.detr.network import RelationDetr
from models.detr.postprocess import Detections, likeliest_boxes
from models.detr.published import adapt_detector, adapt_encoder, adapt_neck
from models.detr.published_backbones import adapt_backbone
from models.detr.transformer import TransformerSizes
from models.timm_attention import AttentionReceipt
from vision_train.artefacts import Artefact
from vision_train.checkpoints import LoadReport
from vision_train.errors import UserError
from vision_train.previews import Pixels, Preview, PreviewRow
from vision_train.recipe.recipe import Recipe
from vision_train.seeds import derive_seed
from vision_train.semi.answers import Answer
from vision_train.semi.box_health import BoxMonitor
from vision_train.semi.boxes import class_cuts
from vision_train.semi.combine import BOX_WEIGHTS, weights_of
from vision_train.semi.consistency import capped
from vision_train.semi.label_file import PseudoLabel
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.box_preview import NOTE, preview_rows
from vision_train.tasks.detection import asked
from vision_train.tasks.detection.chance import chance_warnings
from vision_train.tasks.detection.exhibits import artefacts, relation_bias
from vision_train.tasks.detection.outputs import Wanted, choose_outputs
from vision_train.tasks.detection.pool import BoxPool
from vision_train.tasks.detection.precision import METRICS, measure
from vision_train.tasks.detection.predictions import image_detections, predicted_boxes
from vision_train.tasks.detection.program import exported
from vision_train.tasks.detection.random_start import refuse_random_start
from vision_train.tasks.detection.results import ImageResult, Numbers, Results, ResultTable, image_result
from vision_train.tasks.detection.tables import lacking
from vision_train.tasks.detection.teaching import pseudo_box_loss, teach_labelled
from vision_train.tasks.detection.thresholds import (
    choose_cuts,
    choose_thresholds,
    counted_from,
    judge_teacher,
    limits,
    objects_of_image,
    told,
)
from vision_train.tasks.detection.worst_images import WorstImages
from vision_train.tasks.exported import Exported
from vision_train.tasks.image_network import installed_attention
from vision_train.tasks.predicted import Predicted
from vision_train.tasks.teaching import LABELLED, POOL, PSEUDO_LABELLED, Teaching

NETWORK = "relation_detr"
TOP = 300
"""Boxes of an image that count, as in COCO's results."""


def build(recipe: Recipe, classes: list[str]) -> DetectionTask:
    """Build the detector that a recipe names, and the task that trains it.

    Raises:
        UserError: The network does not exist or refuses its arguments, or its attention cannot be computed as asked.
    """
    if recipe.model.name != NETWORK:
        raise UserError(
            f"model.name={recipe.model.name}: a detector is {NETWORK}; name its backbone by model.args.backbone"
        )
    network = _build_network(recipe, len(classes))
    return DetectionTask(recipe, network, classes, installed_attention(network, recipe))


def _build_network(recipe: Recipe, classes: int) -> RelationDetr:
    args = dict(recipe.model.args)
    backbone, of_backbone = str(args.pop("backbone", "resnet50")), args.pop("backbone_args", None) or {}
    if not isinstance(of_backbone, dict):
        raise UserError(f"model.args.backbone_args: is {of_backbone}; must be a mapping, of arguments of {backbone}")
    known = [field.name for field in fields(TransformerSizes)]
    if unknown := sorted(args.keys() - {*known}):
        raise UserError(f"model.args.{unknown[0]}: unknown; there are backbone, backbone_args, {', '.join(known)}")
    try:
        network, channels = build_backbone(backbone, **of_backbone)
    except ValueError as error:
        also = f"; model.args.backbone_args={of_backbone} are for it: change them as well" if of_backbone else ""
        raise UserError(f"model.args.backbone={backbone}: {error}; name another model of timm{also}") from error
    try:
        sizes, noise = TransformerSizes(**args), recipe.method.denoising
    except ValueError as error:
        raise UserError(f"model.args.{error}") from error
    denoising = DenoisingGenerator(
        classes, sizes.dim, noise.count, noise.label_noise, noise.box_noise, noise.most_queries
    )
    return RelationDetr(network, channels, classes, sizes, denoising, hide_empty=noise.hide_empty)


class DetectionTask(Task):
    """Trains a network that maps images to classes and boxes.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it.
        classes: C class names, in the order of the labels.
        attention: What computes the attention of its queries and of its backbone.
    """

    metrics = METRICS
    heads = (
        "transformer.encoder_class_head",
        "transformer.hybrid_class_head",
        "transformer.decoder.class_head",
        "denoising_generator.label_encoder",
    )
    parts = MappingProxyType({"encoder": ("transformer.encoder", "transformer.level_embeds")})
    network: RelationDetr

    def __init__(
        self, recipe: Recipe, network: RelationDetr, classes: Sequence[str], attention: AttentionReceipt
    ) -> None:
        super().__init__(recipe, network, classes, attention)
        method = recipe.method
        self.criterion = Criterion(
            class_loss=method.class_loss, repeats=method.hybrid_repeats, hide_empty=method.denoising.hide_empty
        )
        if self.teaching is not None:
            self.teaching = Teaching(recipe.semi, classes, BoxMonitor, recipe.kind.noun)
        self.pool = BoxPool(recipe, classes) if self.teaching is not None else None
        self._worst: WorstImages | None = None
        self._noise = torch.Generator()
        self.seed_generators(0)

    def adapt_published(self, state: Mapping[str, Tensor], network: nn.Module) -> Adapted:
        """Translate a published detector, or the part of one that a part of ours may start from."""
        if network is self.network:
            return adapt_detector(state, network)
        if network is self.network.backbone:
            return adapt_backbone(state, network)
        if isinstance(network, ChannelMapper):
            return adapt_neck(state, network)
        if isinstance(network, Encoder) or isinstance(getattr(network, "encoder", None), Encoder):
            return adapt_encoder(state, network)
        return Adapted(state, state)

    def choose_outputs(self, weights: dict[str, Tensor], said: Sequence[str] | None) -> Adapted:
        """Keep the outputs of class heads that know the classes of the data."""
        adapted = weights if isinstance(weights, Adapted) else Adapted(weights, weights)
        wanted = Wanted(self.classes, self.recipe.data.category_ids or ())
        return choose_outputs(adapted, said, wanted, self.heads)

    def check_start(self, reports: Sequence[LoadReport], examples: int) -> None:
        """Refuse to train a large backbone from random weights on few boxes, or with random parts that are frozen.

        Raises:
            UserError: The backbone is random, and nobody asked for that, or ``model.freeze`` keeps it so; or a pool
                would spoil the network, see :meth:`vision_train.tasks.teaching.Teaching.check`.
        """
        if self.teaching is not None:
            self.teaching.check(self.network, self.start, self.recipe.model.name)
        refuse_random_start(self.network, self.recipe, reports, examples, self.parts)

    def seed_generators(self, rank: int) -> None:
        """Give the noise of each process its own seed."""
        self._noise.manual_seed(derive_seed(self.recipe.seed, f"denoising noise of process {rank}"))

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return {"denoising": self._noise}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what each process mixes its pool with, if it does."""
        super().on_save_checkpoint(checkpoint)
        if self.pool is not None:
            checkpoint["pool_mixing"] = self.pool.state_of_mixing()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with it."""
        super().on_load_checkpoint(checkpoint)
        if self.pool is not None:
            processes = self._trainer.world_size if self._trainer else 1
            self.pool.restore_mixing(checkpoint["pool_mixing"], self.global_rank, processes)

    def exported(self, size: tuple[int, int] | None) -> Exported:
        """The detector as a program of its own."""
        return exported(self.network, self.recipe, self.classes, size, TOP)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Find boxes, with denoising and hybrid queries beside, and take all losses; add the loss of the pool."""
        labelled = batch.get(LABELLED, batch)
        parts = (labelled[key] for key in ("boxes", "class_ids", "ignore"))
        targets = [Target(*each) for each in zip(*parts, strict=True)]
        trained = self.network.learn(labelled["image"], labelled["padding_mask"], targets, generator=self._noise)
        loss = torch.stack([*self.criterion(trained, targets).values()]).sum()
        if self.pool is not None:
            loss = loss + self.pool.learn(self, labelled, batch[POOL], loss)
        if (labelled_by_networks := batch.get(PSEUDO_LABELLED)) is not None:
            taught = teach_labelled(labelled_by_networks, self.recipe.method.pseudo_box_weight)
            of_pool = pseudo_box_loss(self.network, self.criterion, taught, labelled_by_networks)
            loss = loss + capped(self.recipe.semi.weight * of_pool, loss)
        return loss

    def detect(self, batch: Batch) -> Detections:
        """The likeliest boxes of each image, in pixels of the original."""
        found = self.network(batch["image"], batch["padding_mask"]).queries
        sizes = torch.tensor(batch["size"], device=found.boxes.device)
        return likeliest_boxes(found.logits[-1], found.boxes[-1], sizes, TOP)

    def new_scores(self) -> ResultTable:
        """An empty collection of the results of a pass."""
        return ResultTable()

    def score(self, batch: Batch, loader: int = 0) -> list[ImageResult]:
        """Find boxes in a batch and note them beside the truth."""
        found = self.detect(batch)
        results = [image_result(batch, found, place) for place in range(len(batch["id"]))]
        self.scores.add(batch["id"], results)
        return results

    def measure(self, scores: Results) -> dict[str, float]:
        """Average precisions."""
        return measure(scores, self.classes)

    def judge_teaching(self, scores: Results, measured: Mapping[str, float]) -> dict[str, float]:
        """Judge what the teacher taught of the pool by what it finds on the validation images."""
        assert self.pool is not None
        assert self.teaching is not None
        teacher = judge_teacher(scores, self.pool.cuts.numbers(), self._limits())
        self.pool.choose(scores)  # after the cuts by which the pool was taught so far were judged
        self.teaching.note_score(self.global_step, teacher.score)
        origin = self.teaching.origin(self.pool.confidences(scores))
        return self.teaching.judge(self.global_step, self.pool.reading(teacher), origin)

    def begin_gallery(self) -> None:
        """Begin to keep the images with most errors."""
        self._worst = WorstImages(self.classes, self._limits())

    def consider(self, batch: Batch, output: list[ImageResult]) -> None:
        """Keep the images of a batch with most errors."""
        assert self._worst is not None

        def pixels_of(place: int) -> Pixels:
            inside = ~batch["padding_mask"][place]
            return self.pixels_of(batch["image"][place][:, inside.any(1)][:, :, inside.any(0)])

        self._worst.add(batch, output, pixels_of)

    def conclude(self, scores: Results, split: str, measured: Mapping[str, float]) -> list[Artefact]:
        """Errors, tables and curves, the images with most errors, and what the relation of boxes has learned."""
        assert self._worst is not None
        rule = counted_from(self.calibration, self.recipe.method.threshold)
        guessing = chance_warnings(scores, len(self.classes), split)
        self.warnings, self.guesses = [*lacking(scores), *guessing], bool(guessing)
        shown = artefacts(scores, self.classes, split, self._limits(), rule, self.warnings)
        shown.append(self._worst.pictures(split, rule))
        relation = self.network.transformer.decoder.position_relation_embedding
        return shown if relation is None else [*shown, relation_bias(relation, split)]

    def predict_step(self, batch: Batch, batch_idx: int) -> Detections:
        """The likeliest boxes of images without truth."""
        return self.detect(batch)

    def calibrate(self, scores: Results) -> dict[str, Any]:
        """Scores from which on boxes are shown, and taken for objects of unlabelled images; what those may have."""
        of_pool = {asked.CUTS: choose_cuts(scores, self.classes), asked.OBJECTS: objects_of_image(scores)}
        return choose_thresholds(scores, self.classes) | of_pool

    def prediction_notes(self) -> list[str]:
        """Which boxes are shown."""
        return [told(self.calibration, self.classes, self.recipe.method.threshold)]

    def predicted(self, batch: Batch, output: Detections) -> list[Predicted]:
        """The boxes of each image that are shown, and all of them for a file of results."""
        least = self._limits()
        numbers = self.recipe.data.category_ids or range(1, len(self.classes) + 1)
        return [
            predicted_boxes(name, image_detections(output, place), least, self.classes, numbers)
            for place, name in enumerate(batch["id"])
        ]

    def _limits(self) -> Numbers:
        """The score from which on a box of each class is shown and counted."""
        return limits(self.calibration, self.classes, self.recipe.method.threshold)

    @property
    def notes(self) -> list[str]:
        """By what images of a pool are selected."""
        if self.recipe.semi.method != "active_rounds":
            return []
        used = " and ".join(self.score_weights())
        return [
            f"images of the pool are selected by {used}; {asked.NOT_SCORED} is not known of detectors, and left out"
        ]

    def score_weights(self) -> Mapping[str, float]:
        """Robustness alone, or with confidence; attention to a few points says nothing of faithfulness.

        Raises:
            UserError: Faithfulness alone is asked for.
        """
        weights = weights_of(wanted := self.recipe.semi.rounds.scores, BOX_WEIGHTS)
        weights.pop(asked.NOT_SCORED, None)
        if not weights:
            raise UserError(
                f"semi.rounds.scores={wanted}: {asked.NOT_SCORED} is not known of detectors; name robustness"
            )
        return weights

    def pool_views(self, scores: Collection[str]) -> int:
        """Views beside that of validation, which robustness alone asks for."""
        return self.recipe.semi.views if "robustness" in scores else 0

    def answer_pool(self, ids: Sequence[str], views: Sequence[Batch], scores: Collection[str]) -> list[Answer]:
        """Boxes of each image as in validation, and what scores are wanted."""
        cuts = class_cuts(self.calibration.get(asked.CUTS) or {}, self.classes)
        return asked.answer(self.network, ids, views, scores, cuts)

    def label_pool(self, answers: Sequence[Sequence[Answer]]) -> list[PseudoLabel]:
        """The boxes that at least half of the networks find, in the order of the ids."""
        labels = asked.labels_of(answers, self.classes)
        objects = self.calibration.get(asked.OBJECTS, math.nan)
        judged, warnings = asked.judged(labels, self.classes, self.class_counts, objects)
        self.warnings += warnings
        return [*judged]

    def preview(self, batches: Iterator[Batch], count: int) -> Preview:
        """Training images with their boxes, before and after augmentation."""
        return replace(super().preview(batches, count), notes=[NOTE])

    def augmented_rows(self, batch: Batch) -> Iterator[PreviewRow]:
        """A row for each image of a batch with its boxes, as augmentation leaves them and back on the original."""
        return preview_rows(self, batch.get(LABELLED, batch))
