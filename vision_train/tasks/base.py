"""The one base class of tasks: what a run asks of a task, with the defaults that most of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from models.timm_attention import AttentionReceipt
from models.timm_call import TimmCall
from vision_train.artefacts import Artefact, Metric
from vision_train.checkpoints import LoadReport
from vision_train.ema import AverageWeights, MovingAverage
from vision_train.errors import UserError
from vision_train.optim import configure_optimizers
from vision_train.previews import Pixels, Preview, PreviewRow
from vision_train.recipe.recipe import Recipe
from vision_train.semi.teacher import Start
from vision_train.tasks.exported import Exported
from vision_train.tasks.gallery import pixels_of
from vision_train.tasks.labels_pool import LabelsPool
from vision_train.tasks.predicted import Predicted
from vision_train.tasks.scores import Collected
from vision_train.tasks.teaching import Teaching

Batch = dict[str, Any]


class Task(LabelsPool, LightningModule):
    """A LightningModule that owns one network and says how to train it; it knows no files.

    A task implements :meth:`training_step`, :meth:`new_scores`, :meth:`score` and :meth:`measure`, and, if it predicts,
    :meth:`predict_step` and :meth:`predicted`. The rest has defaults. Validation logs ``val/<metric>``, the test loop
    ``<test_split>/<metric>``.

    Args:
        recipe: The checked recipe.
        network: The network; the task owns it. Its parameters keep their plain names.
        classes: The label map; empty where nothing has a label.
        attention: What was installed to compute the network's attention; None for a network that computes its own.

    Attributes:
        warnings: What went wrong in training, in sentences; known after the test pass.
        guesses: Whether the last test pass could be that of guessing; False where the task does not know.
        steps_per_epoch: Optimiser steps of one epoch; set by the run before training.
        total_steps: Optimiser steps of the whole training; set by the run before training.
        validated_every: Epochs from one validation to the next; set by the run before training.
        effective_batch: Samples of an optimiser step over all processes; set by the run before training.
        class_counts: Training samples of each class; set by the run before training.
        training_samples: How many there are; set by the run before training.
        pool_copies: Unlabelled samples that copy labelled ones, and all of them; set by the run before training.
        frozen_at_first: Names of parameters that are trained later than the others; set by the run before training.
        start: What the weights that training starts from know of the classes; set by the run before training.
        teaching: Decides when the pool is learnt from; None where steps draw from none.
        test_split: Name under which the test loop reports; set by the run.
        scores: What the current pass has collected, as :meth:`new_scores` began it.
        calibration: What :meth:`calibrate` decided of these weights; stored with them and loaded with the best ones.
    """

    metrics: tuple[Metric, ...] = ()
    """The metrics that validation measures, without a split's prefix."""
    undrawn: str = ""
    """Why predictions have no pictures, as the end of a sentence; empty where they have."""
    heads: tuple[str, ...] = ()
    """Modules of the network that a checkpoint of other classes need not fill."""
    heads_by_module: tuple[str, ...] = ()
    """Those of the heads that have a module for each class in place of an output."""
    parts: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Names under which ``model.checkpoint`` may give several modules or tensors of the network a file together."""

    named_by: TimmCall | None = None
    """The call of timm that builds a network with weights of the same names; None where the names are our own."""

    def __init__(
        self, recipe: Recipe, network: nn.Module, classes: Sequence[str], attention: AttentionReceipt | None = None
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.network, self.classes = network, list(classes)
        self.attention = attention or AttentionReceipt("auto", {}, {recipe.model.name: "computes its own"})
        self.warnings: list[str] = []
        self.guesses, self.frozen_at_first = False, frozenset[str]()
        self.steps_per_epoch = self.total_steps = self.effective_batch = 0
        self.class_counts: list[int] = []
        self.training_samples, self.validated_every, self.pool_copies = 0, 1, (0, 0)
        self.start: Start = "scratch"
        self.teaching = Teaching(recipe.semi, self.classes) if recipe.semi.uses_pool_in_steps else None
        self.test_split: str = recipe.kind.judged
        self.scores: Any = None
        self.calibration: dict[str, Any] = {}
        self._artefacts: list[Artefact] = []

    @property
    def average(self) -> MovingAverage | None:
        """The moving average of the network that ``optim.ema`` keeps during training; None without one."""
        callbacks = self.trainer.callbacks if self._trainer else []  # type: ignore[attr-defined]  # Lightning sets it
        return next((each.average for each in callbacks if isinstance(each, AverageWeights)), None)

    @property
    def notes(self) -> list[str]:
        """What the user should know of the objective before training."""
        return []

    def news(self) -> list[str]:
        """What the user should know that training found out since this was last asked, as lines."""
        return [] if self.teaching is None else self.teaching.news()

    def adapt_published(self, state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Translate the names and shapes of published weights to those of the network, or of a part of it.

        Raises:
            ValueError: They cannot be translated.
        """
        return dict(state)

    def choose_outputs(self, weights: dict[str, Tensor], said: Sequence[str] | None) -> dict[str, Tensor]:
        """Choose which outputs of heads are kept of weights to start from, by what is known of their classes.

        Args:
            weights: As :meth:`adapt_published` returned them, of the network or of a part of it.
            said: The classes that their file, or what lies beside it, says they know; None where nothing says it.

        Returns:
            The weights to load; an ``Adapted`` may say of which classes their heads are then.
        """
        return weights

    def check_start(self, reports: Sequence[LoadReport], examples: int) -> None:
        """Refuse to train from these weights on so few examples.

        Args:
            reports: What files filled; none where all weights are random.
            examples: What bears a class in the training samples, such as labelled images or boxes.

        Raises:
            UserError: Nothing could be learnt.
        """

    def adaptable_layers(self) -> Sequence[str]:
        """Names of the network's linear layers that low-rank adapters may change (``model.lora``).

        Raises:
            UserError: The task does not adapt its network so.
        """
        raise UserError(
            f"model.lora: task={self.recipe.task} trains no adapters; leave it null (model.freeze names what stays)"
        )

    def check_batch(self, size: int) -> None:
        """Refuse batches of so many samples, the smallest that a training step will see.

        Raises:
            UserError: The objective cannot be computed on so few.
        """

    def encoder(self) -> tuple[Callable[[Tensor], Tensor], str]:
        """The network as an encoder: normalised images (B 3 H W) -> features (B D), and how tokens become one vector.

        Raises:
            UserError: The network does not encode images.
        """
        raise UserError(f"task={self.recipe.task}: its network encodes no images; name another checkpoint")

    def exported(self, size: tuple[int, int] | None) -> Exported:
        """The network for other programs; nothing else is done with the task afterwards.

        Raises:
            UserError: The task does not say how its network is run, or it takes no images of this height and width.
        """
        raise UserError(f"task={self.recipe.task}: its network cannot be exported; load RUN/weights.safetensors")

    def seed_generators(self, rank: int) -> None:
        """Give the random draws of this process a seed of their own."""

    def random_generators(self) -> dict[str, torch.Generator]:
        """Generators whose state belongs into a checkpoint."""
        return {}

    def new_scores(self) -> Collected:
        """Something empty that collects the scores of a pass, such as a :class:`ScoreTable`."""
        raise NotImplementedError

    def score(self, batch: Batch, loader: int = 0) -> Any:
        """Predict a batch and add its scores to :attr:`scores`.

        Args:
            batch: A batch with its truth.
            loader: Number of the loader: 0 for the split itself, then its companions.

        Returns:
            What :meth:`consider` takes; None where there is nothing to show.
        """
        raise NotImplementedError

    def measure(self, scores: Any) -> dict[str, float]:
        """The metrics of a pass by name, without a split's prefix. Called by all processes.

        Args:
            scores: What the collection of :meth:`new_scores` gathered.
        """
        raise NotImplementedError

    def calibrate(self, scores: Any) -> dict[str, Any]:
        """Decide on the validation data how these weights predict, such as by which threshold.

        Called by all processes.

        Args:
            scores: What the collection of :meth:`new_scores` gathered.

        Returns:
            Plain values, which a checkpoint keeps; nothing where there is nothing to decide.
        """
        return {}

    def begin_gallery(self) -> None:
        """Begin to keep the most telling samples of a test pass."""

    def consider(self, batch: Batch, output: Any) -> None:
        """Keep the most telling samples of a batch; ``output`` is what :meth:`score` returned."""

    def conclude(self, scores: Any, split: str, measured: Mapping[str, float]) -> list[Artefact]:
        """What the report shows of a test pass. Called by all processes; also fills :attr:`warnings`."""
        return []

    def artefacts(self) -> list[Artefact]:
        """What the last test pass has to show."""
        return self._artefacts

    def delivered(self) -> nn.Module:
        """The network as code outside of training gets it, in evaluation mode."""
        return self.network.eval()

    def prediction_notes(self) -> list[str]:
        """What the reader of predictions should know of how they came about, such as a threshold."""
        return []

    def predicted(self, batch: Batch, output: Any) -> list[Predicted]:
        """What the network says of each sample of a batch without truth; ``output`` is that of :meth:`predict_step`."""
        remedy = "fine-tune from the run first, with model.checkpoint=RUN in a recipe of another task"
        raise UserError(f"task={self.recipe.task}: predicts nothing by itself; {remedy}")

    def preview(self, batches: Iterator[Batch], count: int) -> Preview:
        """Training samples as the network gets them.

        Args:
            batches: Augmented training batches, without end.
            count: Samples to show.

        Raises:
            UserError: There is nothing to see.
        """
        rows = islice((row for batch in batches for row in self.augmented_rows(batch)), count)
        return Preview("augmented as in training", list(rows))

    def augmented_rows(self, batch: Batch) -> Iterator[PreviewRow]:
        """A row for each image of a batch, as augmentation leaves it.

        Raises:
            UserError: The task trains on no images.
        """
        if "image" not in batch:
            raise UserError(f"task={self.recipe.task}: preview shows images, and this task trains on none")
        for name, image in zip(batch["id"], batch["image"], strict=True):
            yield PreviewRow(name, {"augmented": self.pixels_of(image)})

    def pixels_of(self, image: Tensor) -> Pixels:
        """A normalised image, 3 H W -> H W 3, uint8."""
        return pixels_of(image, self.recipe.augment.preprocessing)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimiser, with its schedule advanced at every optimiser step."""
        return configure_optimizers(
            self.network,
            self.recipe,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            effective_batch=self.effective_batch,
            frozen_at_first=self.frozen_at_first,
        )

    def on_fit_start(self) -> None:
        self.seed_generators(self.global_rank)
        if self.teaching is not None:
            self.teaching.begin(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.teaching is not None:
            checkpoint["teaching"] = self.teaching.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.teaching is not None:
            self.teaching.load_state_dict(checkpoint["teaching"])

    def judge_teaching(self, scores: Any, measured: Mapping[str, float]) -> dict[str, float]:
        """Judge at a validation what the pool does; returns figures for the log, by names without a prefix.

        Called by all processes where :attr:`teaching` is not None.

        Args:
            scores: What the collection of :meth:`new_scores` gathered.
            measured: Its metrics.
        """
        return {}

    def begin_pass(self) -> None:
        """Begin to score a pass over a split."""
        self.scores = self.new_scores()

    def on_validation_epoch_start(self) -> None:
        self.begin_pass()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.score(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        gathered = self.scores.gather()
        self.calibration = self.calibrate(gathered)
        measured = self._log_measured(gathered, "val")
        if self.teaching is not None and not self.trainer.sanity_checking:
            figures = self.judge_teaching(gathered, measured)
            self.log_dict({f"val/pool_{name}": value for name, value in figures.items()})

    def on_test_epoch_start(self) -> None:
        self.begin_pass()
        self.begin_gallery()

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        output = self.score(batch, dataloader_idx)
        if output is not None:
            self.consider(batch, output)

    def on_test_epoch_end(self) -> None:
        gathered = self.scores.gather()
        self._artefacts = self.conclude(gathered, self.test_split, self._log_measured(gathered, self.test_split))
        if self.teaching is not None:
            self._artefacts += self.teaching.artefacts()
            self.warnings += self.teaching.warnings()

    def _log_measured(self, scores: Any, split: str) -> dict[str, float]:
        measured = self.measure(scores)
        values = {f"{split}/{name}": value for name, value in measured.items()}
        self.log_dict(values, rank_zero_only=False, sync_dist=False)
        return measured
