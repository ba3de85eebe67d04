"""What a phase does with parameters that are frozen, for good or for its first epochs."""

from __future__ import annotations

from pytorch_lightning import Callback

from vision_train.optim import Frozen, KeepFrozen, ReleaseFrozen
from vision_train.optim.schedule import count_frozen_steps
from vision_train.recipe import Recipe
from vision_train.run.steps import TrainingSteps
from vision_train.tasks.base import Task


def keeping_frozen(task: Task, frozen: Frozen, steps: TrainingSteps) -> list[Callback]:
    """What keeps a network frozen as its recipe says."""
    callbacks: list[Callback] = [KeepFrozen(frozen.modules)] if frozen.modules else []
    if frozen.at_first:
        parameters = [each for name, each in task.network.named_parameters() if name in frozen.at_first]
        until = count_frozen_steps(task.recipe.model.freeze_first, steps.per_epoch)
        callbacks.append(ReleaseFrozen(frozen.modules_at_first, parameters, until))
    return callbacks


def release_in_words(recipe: Recipe, task: Task) -> list[str]:
    """How much is frozen at first, and until when; nothing where nothing is."""
    first = recipe.model.freeze_first
    if first is None or not task.frozen_at_first:
        return []
    counts = {name: parameter.numel() for name, parameter in task.network.named_parameters()}
    frozen = sum(counts[name] for name in task.frozen_at_first)
    return [
        f"model.freeze_first: {frozen:,} of {sum(counts.values()):,} parameters stay as they are for the first "
        f"{first.epochs:g} epochs, and are trained from there on"
    ]
