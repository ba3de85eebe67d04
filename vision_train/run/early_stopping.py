"""Ending a training whose headline metric no longer improves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping

from vision_train.artefacts import Metric
from vision_train.recipe import Recipe
from vision_train.recipe.run_section import EarlyStopping as Patience
from vision_train.recipe.run_section import Select
from vision_train.report.formats import metric_format, name_in_words


class StopEarly(EarlyStopping):
    """Lightning's EarlyStopping on the headline metric, asked after every validation.

    A metric that is not finite is no improvement; it does not end training by itself.

    Args:
        select: The headline metric.
        patience: Validations without improvement, and what an improvement is.
    """

    def __init__(self, select: Select, patience: Patience) -> None:
        super().__init__(
            monitor=select.metric,
            mode=select.mode,
            patience=patience.patience,
            min_delta=patience.min_delta,
            check_finite=False,
            check_on_train_epoch_end=False,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take no further epoch where a run that is resumed had stopped before it was measured."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting, with the patience of today's recipe."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def in_words(self, trainer: Trainer, recipe: Recipe, best_epoch: int | None, described: Collection[Metric]) -> str:
        """When and why training ended, and what of its schedule is missing; empty where it went to its end.

        Args:
            trainer: After training.
            recipe: Of the phase.
            best_epoch: The epoch that is kept, from 0.
            described: What the task says of its metrics.
        """
        if self.wait_count < self.patience or trainer.current_epoch >= (trainer.max_epochs or 0):
            return ""
        metrics, change = {metric.name: metric for metric in described}, abs(self.min_delta)
        title, written = name_in_words(self.monitor, metrics), metric_format(self.monitor, metrics)
        more = f" by more than {written(change)}" if change else ""
        best = "" if best_epoch is None else f" The best epoch is {best_epoch + 1}."
        said = (
            f"training ended early, after epoch {trainer.current_epoch} of {trainer.max_epochs}: {title} has not "
            f"improved{more} in {self.wait_count} validations (run.early_stopping).{best}"
        )
        if recipe.optim.schedule == "constant":
            return said
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        return (
            f"{said} The schedule `{recipe.optim.schedule}` had not ended: the learning rate stood at {rate:.3g}, so a "
            "training that is planned for as many epochs may do better"
        )
