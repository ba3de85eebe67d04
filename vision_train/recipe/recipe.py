"""The typed result of reading a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vision_train.recipe.sections import Augment, Data, Model, Optim, Run


@dataclass(frozen=True)
class Recipe:
    """One training run, fully resolved. Re-running it anywhere repeats the run."""

    description: str
    """One line for the list of recipes."""
    task: str
    """What is learned: classification."""
    method: Any
    """The task's training objective; its keys depend on `task`."""
    seed: int = 0
    """One integer; everything random derives from it."""
    data: Data = field(default_factory=Data)
    """What to train on."""
    augment: Augment = field(default_factory=Augment)
    """What is done to the images."""
    model: Model = field(default_factory=Model)
    """The network and the weights it starts from."""
    optim: Optim = field(default_factory=Optim)
    """Optimiser, schedule and averaging."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Passed on to Lightning's Trainer as it is: max_epochs, devices, strategy, precision, ..."""
    run: Run = field(default_factory=Run)
    """How the run is conducted and judged."""
    name: str = "recipe"
    """Where it came from (`mixpro/digits`, or a file's stem); names the run directory. Not a key of the file."""
