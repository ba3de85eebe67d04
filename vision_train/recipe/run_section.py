"""The `run` section of a recipe: how a run is conducted and judged, when it ends, what it keeps, and who is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from vision_train.data.kind import Problems

MOST_THREADS = 1024
"""More take minutes to start, in which nothing can interrupt them."""
Tracker = Literal["tensorboard", "wandb", "mlflow"]
AutomaticKey = Literal["data.batch_size", "optim.lr"]
AUTOMATIC: tuple[AutomaticKey, ...] = get_args(AutomaticKey)
"""Keys that take the word `auto`."""


@dataclass(frozen=True)
class Select:
    """The headline metric: chooses the best epoch and heads every table."""

    metric: str = "val/accuracy"
    """A validation metric as written in metrics.jsonl."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less of it is better."""


@dataclass(frozen=True)
class EarlyStopping:
    """End training where the metric of `run.select` no longer improves."""

    patience: int
    """Validations in a row without an improvement after which training ends."""
    min_delta: float = 0.0
    """An improvement is a gain of more than this over the best value so far."""

    def problems(self) -> Problems:
        """Yield a patience or a gain that means nothing."""
        if self.patience < 1:
            yield "patience", f"is {self.patience}; must be at least 1; to train to the end, set early_stopping to null"
        if self.min_delta < 0:
            yield "min_delta", f"is {self.min_delta}; must be 0 or more"


@dataclass(frozen=True)
class Run:
    """How the run is conducted and judged."""

    select: Select = field(default_factory=Select)
    """Which metric chooses the best epoch."""
    keep: int = 1
    """How many of the best epochs stay on disk. From 2 on, `checkpoints/epoch-N.ckpt` are those; `best.ckpt` is the
    first of them as ever."""
    early_stopping: EarlyStopping | None = None
    """End training where the metric of `select` no longer improves; null trains to the end."""
    trackers: list[Tracker] = field(default_factory=list)
    """Experiment trackers that get the lines of metrics.jsonl, the recipe and the pictures of the report as well. Files
    are written below the run directory; nothing is sent unless the environment names a server or an account."""
    pretrain: str | None = None
    """Recipe to train first, as a phase of this run; its best weights are where this one starts."""
    on_nan: Literal["stop", "continue"] = "stop"
    """What a loss that is not finite does: end the run with a message, or nothing."""
    automatic: list[AutomaticKey] = field(default_factory=list)
    """Keys whose value is found on the machine that trains, before the first step; `data.batch_size=auto` and
    `optim.lr=auto` put them here. The recipe that a run keeps has the values found, and none here."""
    threads: int | None = None
    """Threads with which each process computes on the CPU. Null takes `OMP_NUM_THREADS` where it is set, else one for
    each core that a container or scheduler grants, which processes that train together on a machine share. The number
    changes the last bits of results; a run that is resumed goes on with the one that it was begun with."""

    def problems(self) -> Problems:
        """Yield what keeps no epoch, names a tracker twice, cannot be tried out or computes nothing."""
        if self.keep < 1:
            yield "keep", f"is {self.keep}; must be at least 1, the best epoch"
        if len(set(self.trackers)) < len(self.trackers):
            yield "trackers", f"is {self.trackers}; name each tracker once"
        if self.pretrain is not None and "optim.lr" in self.automatic:
            yield (
                "automatic",
                f"has optim.lr, which is tried out with the weights that training starts from, and those of "
                f"run.pretrain={self.pretrain} do not exist yet; set optim.lr to a number, or train that recipe first "
                "and name its run as model.checkpoint",
            )
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            yield "threads", f"is {self.threads}; must be from 1 to {MOST_THREADS:,}"
