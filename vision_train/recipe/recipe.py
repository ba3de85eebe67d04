"""The typed result of reading a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from vision_train.data.kind import KindOfData, Problems
from vision_train.recipe.layers import show
from vision_train.recipe.optim_section import Optim
from vision_train.recipe.run_section import Run
from vision_train.recipe.sections import Augment, Model
from vision_train.recipe.semi_section import Semi
from vision_train.tasks import kind_of_data, semi_methods

RUN = "{half_life: run}"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run, fully resolved. Re-running it anywhere repeats the run."""

    name: str = "recipe"
    """Names the run directory. Taken from the file (`classification/vit_small`, or a file's stem) unless it says."""
    description: str = ""
    """One line for the list of recipes."""
    task: str
    """What is learned; other packages can add tasks."""
    seed: int = 0
    """One integer; everything random derives from it."""
    data: Any
    """What to train on; its keys depend on the kind of data that `task` names."""
    augment: Augment = field(default_factory=Augment)
    """What is done to the images."""
    model: Model = field(default_factory=Model)
    """The network and the weights it starts from."""
    method: Any
    """The task's training objective; its keys depend on `task`."""
    optim: Optim = field(default_factory=Optim)
    """Optimiser, schedule and averaging."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Passed on to Lightning's Trainer as it is: max_epochs, devices, strategy, precision, ..."""
    semi: Semi = field(default_factory=Semi)
    """What is done with unlabelled images."""
    run: Run = field(default_factory=Run)
    """How the run is conducted and judged."""

    @property
    def kind(self) -> KindOfData:
        """The kind of data that the task trains on."""
        return kind_of_data(self.task)

    def problems(self) -> Problems:
        """Yield a name or seed that cannot be used."""
        path = PurePath(self.name)
        if not path.parts or path.is_absolute() or ".." in path.parts:
            yield "name", f"is `{self.name}`; it names a folder under runs/, so a plain name or a/b"
        if self.seed < 0 or self.seed >= 2**32:
            yield "seed", f"is {show(self.seed)}; must lie between 0 and 4294967295"
        yield from self._pool_problems()
        yield from self._length_problems()

    def unset(self) -> Problems:
        """Yield unlabelled samples that a method learns from and nobody has named."""
        if self.semi.method != "none" and getattr(self.data, "unlabelled", "") is None:
            place = "CSV" if self.kind.takes_text else "FOLDER"
            yield (
                "data.unlabelled",
                f"no unlabelled {self.kind.noun} named, from which semi.method={self.semi.method} learns; set "
                f"data.unlabelled={place}, or semi.method=none",
            )

    def _pool_problems(self) -> Problems:
        """Yield a way to learn from a pool that the task does not know, or that lacks its teacher."""
        known = semi_methods(self.task) if self.task else ()
        if self.semi.method not in known and self.semi.method != "none":
            yield "semi.method", f"is {self.semi.method}; task={self.task} takes {' | '.join(known)}"
        elif self.semi.uses_pool_in_steps and self.semi.teacher == "average" and self.optim.ema is None:
            yield "optim.ema", f"is null, and semi.method={self.semi.method} has it as teacher; set 'optim.ema={RUN}'"

    def _length_problems(self) -> Problems:
        """Yield what does not go together with a training whose length or phases a method divides."""
        if self.semi.method != "none" and self.run.early_stopping is not None:
            yield (
                "run.early_stopping",
                f"is set beside semi.method={self.semi.method}, which plans the whole length: training would end "
                "before the pool has been learnt from; set it to null",
            )
        if self.semi.in_phases and self.model.freeze_first is not None:
            yield (
                "model.freeze_first",
                f"is set beside semi.method={self.semi.method}, which divides training into phases that begin with "
                "trained weights; set it to null",
            )
        if "data.batch_size" in self.run.automatic and (self.semi.in_phases or self.semi.verdict is not None):
            what = "semi.verdict" if self.semi.verdict is not None else f"semi.method={self.semi.method}"
            yield (
                "run.automatic",
                f"has data.batch_size beside {what}, some steps of which cannot be tried out before training; set "
                "data.batch_size to a number",
            )
