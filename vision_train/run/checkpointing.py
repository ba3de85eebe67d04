"""What a run saves at the end of each epoch, and the random state that goes with it."""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import Callback, Checkpoint

from vision_train.processes import gather_objects
from vision_train.recipe import Recipe, to_plain
from vision_train.run.best_weights import CALIBRATION
from vision_train.seeds import derive_seed
from vision_train.tasks.base import Task

KEPT = "epoch-*.ckpt"
"""Files of the epochs that ``run.keep`` keeps."""


def kept_file(epoch: int) -> str:
    """Name of the file of an epoch, from 0, that is kept; people count epochs from 1."""
    return f"epoch-{epoch + 1}.ckpt"


class EpochCheckpoints(Checkpoint):
    """Writes ``last.ckpt`` after every epoch and lets ``best.ckpt`` be a copy of it whenever the metric improved.

    With ``run.keep`` above 1, the best epochs so far stay as ``epoch-N.ckpt`` too. An epoch without a validation of its
    own is none of them.

    Lightning's own ModelCheckpoint keeps the two as separate, separately written files and ties them to absolute
    paths; here an epoch is written once, and a run directory can be moved.

    Args:
        folder: Where the two files go.
        recipe: Stored, resolved, in each checkpoint; its ``run.select`` decides what is best.
        conditions: Plain values, stored as well: what a resumed run is compared with.
        on_saved: Called once the epoch is on disk.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, conditions: dict[str, Any], on_saved: Callable[[Trainer], None]
    ) -> None:
        self.folder, self.recipe, self.conditions, self.on_saved = folder, recipe, conditions, on_saved
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.best_metrics: dict[str, float] = {}
        self.kept: list[dict[str, Any]] = []
        """Epochs that are kept, the best first: ``epoch``, ``value`` and ``metrics``."""
        self._validated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove files of epochs that a run which was killed kept after its last checkpoint."""
        if trainer.is_global_zero:
            self._remove_others()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that this epoch's metrics are its own; Lightning keeps those of earlier epochs."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch. Lightning calls checkpoint callbacks after all others, so their state is up to date."""
        measured = self._measured(trainer)
        improved = self._improved(trainer, measured)
        keeps = measured is not None and self._keep(measured)
        last = self.folder / "last.ckpt"
        temporary = self.folder / ".last.ckpt.tmp"
        trainer.save_checkpoint(temporary)  # called on every process, written by the first
        if trainer.is_global_zero:
            # The best first: killed in between, the run repeats this epoch; the other way round it would believe that
            # best.ckpt holds it.
            if improved:
                link_or_copy(temporary, self.folder / "best.ckpt")
            if keeps:
                link_or_copy(temporary, self.folder / kept_file(trainer.current_epoch))
            temporary.replace(last)
            self._remove_others()
        trainer.strategy.barrier("epoch saved")
        self.on_saved(trainer)

    def _measured(self, trainer: Trainer) -> dict[str, Any] | None:
        """What the validation of this epoch found; None where there was none."""
        if not self._validated:
            return None
        self._validated = False
        metrics = {key: value.item() for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        return {"epoch": trainer.current_epoch, "value": metrics[self.recipe.run.select.metric], "metrics": metrics}

    def _improved(self, trainer: Trainer, measured: dict[str, Any] | None) -> bool:
        if measured is None:
            return self.best_value is None  # until the first validation, the latest epoch is the best there is
        if self.best_value is not None and not self._better(measured, self.best_value, self.best_metrics):
            return False
        self.best_value, self.best_epoch, self.best_metrics = measured["value"], measured["epoch"], measured["metrics"]
        return True

    def _keep(self, measured: dict[str, Any]) -> bool:
        """Whether the epoch is one of the best; it takes its place among them."""
        count = self.recipe.run.keep if self.recipe.run.keep > 1 else 0
        kept = [each for each in self.kept if each["epoch"] != measured["epoch"]]
        better = (n for n, each in enumerate(kept) if self._better(measured, each["value"], each["metrics"]))
        kept.insert(next(better, len(kept)), measured)
        self.kept = kept[:count]
        return measured in self.kept

    def _better(self, measured: dict[str, Any], value: float, metrics: dict[str, float]) -> bool:
        """Whether what was measured is better than an earlier epoch of this value and these metrics."""
        new = measured["value"]
        if math.isnan(value) or new == value:
            # A small validation set often ties in accuracy; the loss still tells epochs apart. Where there is none, as
            # in pre-training, the later of two epochs has learned for longer.
            return measured["metrics"].get("val/loss", -math.inf) < metrics.get("val/loss", math.inf)
        return bool(new > value if self.recipe.run.select.mode == "max" else new < value)

    def _remove_others(self) -> None:
        names = {kept_file(each["epoch"]) for each in self.kept}
        for file in self.folder.glob(KEPT):
            if file.name not in names:
                file.unlink()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file readable on its own: label map, recipe, conditions, and how it is to predict."""
        assert isinstance(pl_module, Task)
        checkpoint["conditions"] = self.conditions
        checkpoint["classes"] = pl_module.classes
        checkpoint["recipe"] = to_plain(self.recipe)
        if pl_module.named_by is not None:
            checkpoint["named_by"] = {"architecture": pl_module.named_by.architecture, "args": pl_module.named_by.args}
        if pl_module.calibration:
            checkpoint[CALIBRATION] = pl_module.calibration

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Give the weights back what was decided of them: until the next validation nothing else does."""
        assert isinstance(pl_module, Task)
        pl_module.calibration = dict(checkpoint.get(CALIBRATION) or {})

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.best_value, "epoch": self.best_epoch, "metrics": self.best_metrics, "kept": self.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_epoch, self.best_metrics = state_dict["epoch"], state_dict["metrics"]
        # Of the metric that the recipe names today; the best epoch so far stays that of the metric it was chosen by.
        self.best_value = self.best_metrics.get(self.recipe.run.select.metric, state_dict["value"])
        self.kept = list(state_dict.get("kept", ()))  # earlier versions kept none


def link_or_copy(source: Path, target: Path) -> None:
    """Let ``target`` name the same content as ``source``, replacing what was there in one step.

    A hard link costs no space and no time; file systems without links get a copy. ``source`` must afterwards only be
    replaced, never written in place.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # it stays where both name the same file already


class RandomState(Callback):
    """Seeds each process for training, and keeps the state of every random generator in the checkpoint.

    Args:
        seed: The recipe's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._restored: list[dict[str, Any]] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Collect the states of all processes; every process calls this."""
        checkpoint["random_state"] = gather_objects(_capture(pl_module))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep them until training starts: building the loaders draws numbers in between."""
        self._restored = checkpoint["random_state"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on where the checkpoint stood, or start afresh.

        A process that the checkpoint does not know (the run goes on with more of them) starts afresh as well.
        """
        if self._restored and trainer.global_rank < len(self._restored):
            _restore(self._restored[trainer.global_rank], pl_module)
        else:
            seed_everything(
                derive_seed(self.seed, "training", trainer.global_rank, trainer.current_epoch), verbose=False
            )
        self._restored = None


def _capture(pl_module: LightningModule) -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    assert isinstance(pl_module, Task)
    own = pl_module.random_generators()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [kind, [int(key) for key in keys], position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "own": {name: generator.get_state() for name, generator in own.items()},
    }


def _restore(state: dict[str, Any], pl_module: LightningModule) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    assert isinstance(pl_module, Task)
    for name, generator in pl_module.random_generators().items():
        if name in state["own"]:  # what an accepted change of the recipe draws anew begins with its own seed
            generator.set_state(state["own"][name])
