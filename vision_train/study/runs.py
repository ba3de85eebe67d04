"""One run of a study: what it is trained by, where it lies, and how far it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_train.files import read_mapping
from vision_train.recipe.plain import escaped
from vision_train.run.directory import RunDirectory
from vision_train.study.plan import Draw
from vision_train.study.processes import lock_of


def read_record(file: Path, folder: Path) -> dict[str, Any]:
    """A JSON file that tells of the run in ``folder``.

    Raises:
        UserError: It is damaged.
    """
    return read_mapping(file, f"restore it, or delete {folder} and give the same command to train this run anew")


@dataclass(frozen=True)
class Run:
    """One run of the study: a recipe and what chance decides."""

    title: str
    recipe: Path
    """The resolved recipe in the study folder."""
    draw: Draw
    folder: Path
    """The run directory."""
    log: Path
    """What the run printed."""
    metric: str | None
    """What it has to measure; None for one that others start from."""
    start: Run | None = None
    """The run, on the same draw, whose best weights this one begins with."""

    @property
    def seed(self) -> int:
        """What it is trained with."""
        return self.draw.seed

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.title} {self.draw.title}"

    @property
    def finished(self) -> bool:
        """Whether it has its result; a UserError if the file of results is damaged."""
        summary = self.folder / "summary.json"
        if not summary.is_file():
            return False
        return self.metric is None or read_record(summary, self.folder).get(self.metric) is not None

    @property
    def resumable(self) -> bool:
        """Whether it has a checkpoint to go on from. One that ended without a result has nothing to go on to."""
        ended = (self.folder / "summary.json").exists()
        return not ended and any(self.folder.glob("phases/*/checkpoints/last.ckpt"))

    @property
    def measured_nothing(self) -> bool:
        """Whether it ended without a finite value of what it has to measure."""
        return (self.folder / "summary.json").is_file() and not self.finished

    @property
    def overrides(self) -> list[str]:
        """What chance and earlier runs decide, as keys that are laid over its recipe."""
        fold = [] if self.draw.fold is None else [f"data.fold.number={self.draw.fold}"]
        # As the phases of one run would hand over, but from a run of its own that several may start from.
        start = [] if self.start is None else [f"model.checkpoint={json.dumps(escaped(str(self.start.weights)))}"]
        return [f"seed={self.seed}", *fold, "run.pretrain=null", *start]

    @property
    def weights(self) -> Path:
        """What others start from: the file that a run writes as it ends, so that nothing can start from half of it."""
        weights = RunDirectory(self.folder.absolute()).weights
        # Versions before left the checkpoints alone.
        return self.folder.absolute() if self.finished and not weights.is_file() else weights

    @property
    def lock(self) -> Path:
        """Held by the process that trains it."""
        return lock_of(self.log)

    @property
    def conditions(self) -> Path:
        """How many runs were trained at a time, this one among them."""
        return self.log.with_suffix(".json")


def chain(run: Run) -> list[Run]:
    """A run behind those that it starts from, in the order of training."""
    return [*(chain(run.start) if run.start else []), run]
