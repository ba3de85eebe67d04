"""What the person who waits sees: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vision_train.artefacts import Metric
from vision_train.recipe import Recipe
from vision_train.report.formats import describe, in_words
from vision_train.run.meter import Meter

SECONDS_BETWEEN_LINES = 30.0
"""In a pipe, an epoch longer than this reports in between."""


class ProgressDisplay(Callback):
    """Shows throughput, time left, loss and the share of time spent waiting for data.

    Args:
        meter: Measures; this only shows.
        recipe: Names the headline metric.
        metrics: Descriptions of the metrics; those that are always shown stand beside the headline metric.
        console: Where to write; decides by itself whether it is a terminal.
    """

    def __init__(self, meter: Meter, recipe: Recipe, metrics: Sequence[Metric], console: Console) -> None:
        self.meter, self.recipe, self.console = meter, recipe, console
        self.described = {metric.name: metric for metric in metrics}
        self.always = [f"val/{metric.name}" for metric in metrics if metric.shown == "always"]
        self.bar: Progress | None = None
        self._task = TaskID(0)
        self._steps_done = 0
        self._steps_total = 0
        self._began = self._last_line = 0.0
        self._epoch_began = 0.0
        self._validated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = (trainer.max_epochs or 1) - trainer.current_epoch
        self._steps_total = epochs * int(trainer.num_training_batches)
        self._began = self._last_line = time.monotonic()
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:3.0f}%"),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=self.console)
            self._task = self.bar.add_task("starting", total=self._steps_total, figures="")
            self.bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_began = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance."""
        self._steps_done += 1
        name = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        if self.bar:
            self.bar.update(self._task, advance=1, description=name, figures=self._figures())
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES and not trainer.is_last_batch:
            self._line(f"{name}  step {batch_idx + 1}/{int(trainer.num_training_batches)}  {self._figures()}")

    def epoch_saved(self, trainer: Trainer) -> None:
        """One line an epoch stays on the screen, once its checkpoint is written."""
        shown = [self.recipe.run.select.metric, *self.always] if self._validated else []
        shown = [name for name in dict.fromkeys(shown) if describe(name, self.described).shown]
        self._validated = False
        measured = {name: trainer.callback_metrics[name] for name in shown if name in trainer.callback_metrics}
        headline = "".join(f"  {in_words(name, value.item(), self.described)}" for name, value in measured.items())
        self._line(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{headline}  {self._figures()}")
        for line in trainer.lightning_module.news():  # type: ignore[operator]  # a Task
            self._line(line, time_left=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that this epoch's metrics are its own; Lightning keeps those of earlier epochs."""
        self._validated = not trainer.sanity_checking

    def _figures(self) -> str:
        now = self.meter.running()
        loss = f"loss {self.meter.latest['train/loss']:.4f}  " if self.meter.latest else ""
        return f"{loss}{now['samples_per_second']:,.0f} samples/s  {now['data_wait']:.0%} waiting for data"

    def _line(self, text: str, *, time_left: bool = True) -> None:
        self._last_line = time.monotonic()
        if time_left and not self.bar and self._steps_done:
            left = (self._last_line - self._began) / self._steps_done * (self._steps_total - self._steps_done)
            text += f"  {format_seconds(left)} left"
        self.console.print(text)
        logging.getLogger("vision_train").info(text)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the bar away, so that the message stands alone."""
        self._stop()

    def _stop(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def format_seconds(seconds: float) -> str:
    """Seconds as ``42 s``, ``3 min 10 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
