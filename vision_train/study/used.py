"""The values of an arm as its runs had them: a recipe may leave some to the machine, and each run finds its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vision_train.recipe import Recipe, to_plain
from vision_train.recipe.automatic import AUTO, NOTED
from vision_train.recipe.layers import join_keys
from vision_train.report.formats import format_cell, format_number
from vision_train.run.plan import LAST
from vision_train.study.plan import flatten
from vision_train.study.resolved import ResolvedArm
from vision_train.study.results import recipe_of_run, steps_of_run
from vision_train.study.runs import Run

DASH = "–"
AUTOMATIC_KEYS = join_keys(NOTED)
BATCH, RATE, PARTS = "data.batch_size", "optim.lr", "trainer.accumulate_grad_batches"


def keys_left(recipe: Recipe) -> list[str]:
    """Keys whose value each run finds; a batch that is found is one of several that are accumulated."""
    automatic = recipe.run.automatic
    return [*automatic, *([PARTS] if BATCH in automatic else [])]


def phase_recipe(arm: ResolvedArm, phase: str) -> Recipe | None:
    """The recipe of a phase; None where the arm has none of this name."""
    return next((each.recipe for each in arm.phases if each.name == phase), None)


@dataclass(frozen=True)
class Used:
    """An arm in one cell of the grid, with what its runs say."""

    arm: ResolvedArm
    runs: Sequence[Run]
    """Those that are finished."""

    def value(self, phase: str, key: str) -> str:
        """A value of the recipe of a phase; a dash where there is no such phase."""
        recipe = phase_recipe(self.arm, phase)
        if recipe is None:
            return DASH
        if phase != LAST or key not in keys_left(recipe):
            return format_cell(flatten(to_plain(recipe)).get(key))
        # Lightning accumulates one batch where nothing is said.
        found = [flatten(to_plain(recipe_of_run(run.folder))).get(key, 1) for run in self.runs]
        return _found(found, format_cell)

    def steps(self) -> str:
        """Optimiser steps, those of pre-training aside."""
        if BATCH not in self.arm.recipe.run.automatic:
            return format_number(self.arm.steps)
        return _found([steps_of_run(run) for run in self.runs], format_number)

    def learning_rate(self) -> str:
        """Peak rate, scaled to the effective batch where the recipe asks for it."""
        optim, automatic = self.arm.recipe.optim, self.arm.recipe.run.automatic
        if BATCH in automatic and optim.lr_reference_batch:
            return AUTO  # parts of a batch may fill a small epoch otherwise than the whole batch does
        if RATE not in automatic:
            return f"{self.arm.learning_rate:g}"
        factor = self.arm.learning_rate / optim.lr
        return _found([recipe_of_run(run.folder).optim.lr * factor for run in self.runs], lambda rate: f"{rate:.3g}")


def _found(values: Sequence[float], written: Callable[[float], str]) -> str:
    """What runs found, from the least to the largest; nothing but the word before there are runs."""
    if not values:
        return AUTO
    least, largest = written(min(values)), written(max(values))
    return f"{AUTO}: {least}" if least == largest else f"{AUTO}: {least} to {largest}"
