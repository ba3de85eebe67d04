"""What the person who waits for a pass over samples sees of it: in training, validation, test and prediction."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console

from vision_train.artefacts import Metric
from vision_train.progress import Figure, Work, doing, fitted, format_seconds, width_of
from vision_train.recipe import Recipe
from vision_train.report.formats import describe, in_words
from vision_train.run.meter import Meter, samples_in
from vision_train.wording import percent

_EPOCH = re.compile(r"epoch (\d+)/(\d+)(?:  (\d+) ?%)?(?:  |$)")
"""How lines begin that say how far training is: at the end of an epoch, or with the share of all steps within one."""


class ProgressDisplay(Callback):
    """Shows throughput, time left, loss and the share of time spent waiting for data, and a line for each epoch.

    Args:
        meter: Measures; this only shows.
        recipe: Names the headline metric.
        metrics: Descriptions of the metrics; those that are always shown stand beside the headline metric.
        console: Where the lines of epochs go.
    """

    def __init__(self, meter: Meter, recipe: Recipe, metrics: Sequence[Metric], console: Console) -> None:
        self.meter, self.recipe, self.console = meter, recipe, console
        self.described = {metric.name: metric for metric in metrics}
        self.always = [f"val/{metric.name}" for metric in metrics if metric.shown == "always"]
        self._open = ExitStack()
        self._work: Work | None = None
        self._validated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = (trainer.max_epochs or 1) - trainer.current_epoch
        steps = epochs * int(trainer.num_training_batches)
        self._work = self._open.enter_context(doing("training", steps))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance."""
        if self._work:
            self._work.text = _epoch(trainer)
            self._work.advance(1, 0, *self._figures())

    def epoch_saved(self, trainer: Trainer) -> None:
        """One line an epoch stays on the screen, once its checkpoint is written."""
        shown = [self.recipe.run.select.metric, *self.always] if self._validated else []
        shown = [name for name in dict.fromkeys(shown) if describe(name, self.described).shown]
        self._validated = False
        measured = {name: trainer.callback_metrics[name] for name in shown if name in trainer.callback_metrics}
        parts = [_epoch(trainer)]
        parts += [in_words(name, value.item(), self.described) for name, value in measured.items()]
        figures = [figure if isinstance(figure, str) else figure[0] for figure in self._figures()]
        left = self._work.seconds_left() if self._work and not self.console.is_terminal else None  # a bar says it
        figures += [] if left is None else [f"{format_seconds(left)} left"]
        self._line(fitted(parts, width_of(self.console), optional=figures), "  ".join([*parts, *figures]))
        for line in trainer.lightning_module.news():  # type: ignore[operator]  # a Task
            self._line(line, line)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that this epoch's metrics are its own; Lightning keeps those of earlier epochs."""
        self._validated = not trainer.sanity_checking

    def _figures(self) -> list[Figure]:
        now = self.meter.running()
        loss = [f"loss {self.meter.latest['train/loss']:.4f}"] if self.meter.latest else []
        waiting = percent(now["data_wait"])
        return [
            *loss,
            f"{now['samples_per_second']:,.0f} samples/s",
            (f"{waiting} waiting for data", f"{waiting} wait"),
        ]

    def _line(self, shown: str, logged: str) -> None:
        if self._work:
            self._work.told()
        self.console.print(shown)
        logging.getLogger("vision_train").info(logged)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the bar away, so that the message stands alone."""
        self._stop()

    def _stop(self) -> None:
        self._open.close()
        self._work = None


class PassProgress(Callback):
    """Shows how far a pass is that learns nothing, in validation, test or prediction.

    Args:
        noun: What the samples are, in the plural.
        text: What the pass is for; empty for Lightning's word.
    """

    def __init__(self, noun: str, text: str = "") -> None:
        self.noun, self.text = noun, text
        self._open = ExitStack()
        self._work: Work | None = None

    def _begin(self, word: str, batches: Sequence[float]) -> None:
        total = sum(batches)
        known = total if math.isfinite(total) else None
        self._work = self._open.enter_context(doing(self.text or word, known, "batches", parts=self.noun))

    def _count(self, trainer: Trainer, batch: Any) -> None:
        if self._work:
            self._work.advance(1, samples_in(batch) * trainer.world_size)

    def _end(self) -> None:
        self._open.close()
        self._work = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin("validating", trainer.num_val_batches)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._count(trainer, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin("testing", trainer.num_test_batches)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._count(trainer, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin("predicting", trainer.num_predict_batches)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._count(trainer, batch)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the bar away."""
        self._end()


@dataclass(frozen=True)
class EpochReached:
    """How far a phase of a run is, as the run last said."""

    number: int
    """Counted from 1."""
    of: int
    share: float
    """What is done of the phase, 0 to 1."""


def epoch_reached(said: str) -> EpochReached | None:
    """Read what a run printed to a file: the last of its lines that names an epoch."""
    for line in reversed(said.splitlines()):
        if found := _EPOCH.match(line):
            number, of, hundredths = found.groups()
            share = int(hundredths) / 100 if hundredths else int(number) / int(of)
            return EpochReached(int(number), int(of), share)
    return None


def _epoch(trainer: Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
