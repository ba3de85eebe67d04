"""What each arm would do, found out by building it: the test images, the budget, the effective learning rate."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from vision_train.compare.plan import Plan
from vision_train.data.images import ImageDataModule
from vision_train.errors import UserError
from vision_train.optim import learning_rate_factor
from vision_train.recipe import Recipe
from vision_train.run.fit import prepare_phases
from vision_train.run.log import logging_to
from vision_train.run.phase import Prepared
from vision_train.run.phases import plan_phases
from vision_train.run.trainer import build_trainer, plan_steps


@dataclass(frozen=True)
class Setting:
    """One arm in one cell of the grid, as it will be trained."""

    phases: tuple[tuple[str, Recipe], ...]
    """Names and recipes of its phases, in order; the last is ``fit``."""
    steps: int
    """Optimiser steps of the last phase."""
    learning_rate: float
    """Peak rate of the last phase, scaled to the effective batch where the recipe asks for it."""
    classes: tuple[str, ...]
    test_images: int
    test_digest: str
    """Of the ids, files and labels of the test images."""

    @property
    def recipe(self) -> Recipe:
        """The recipe that was asked for."""
        return self.phases[-1][1]


Settings = list[list[Setting]]
"""``settings[arm][cell]``."""


def build_settings(plan: Plan) -> Settings:
    """Build every arm once, with its first seed, so that what the user can mend is said before the first run.

    Raises:
        UserError: An arm cannot be built, or arms are not tested on the same images and classes.
    """
    settings = [[_build(arm.name, recipe) for recipe in arm.recipes] for arm in plan.arms]
    for cell in range(len(plan.cells)):
        first = settings[0][cell]
        for arm, of_arm in zip(plan.arms[1:], settings[1:], strict=True):
            _refuse_other_test(plan.arms[0].name, first, arm.name, of_arm[cell])
    return settings


def _build(arm: str, recipe: Recipe) -> Setting:
    phases = plan_phases(recipe)
    try:
        prepared = prepare_phases(phases)["fit"]
    except UserError as error:
        raise UserError(f"{arm}: {error}") from error
    with logging_to(None):
        trainer = build_trainer(recipe, [])
        _, steps = plan_steps(recipe, prepared.data, trainer)
    batch = recipe.data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
    rate = recipe.optim.lr * learning_rate_factor(recipe.optim, batch)
    images, digest = _test_images(prepared)
    return Setting(tuple(phases), steps, rate, tuple(prepared.data.classes), images, digest)


def _test_images(prepared: Prepared) -> tuple[int, str]:
    data: ImageDataModule = prepared.data
    samples = data.test_dataloader().dataset.samples
    # Digits are in memory and have no file; their ids say which scan they are.
    lines = [[s.id, s.image if isinstance(s.image, str) else "", s.label] for s in samples]
    return len(lines), hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _refuse_other_test(first_name: str, first: Setting, name: str, other: Setting) -> None:
    if other.classes != first.classes:
        raise UserError(
            f"{first_name} and {name}: have {len(first.classes)} and {len(other.classes)} classes, or classes of other "
            "names; arms are compared on one label map. Give both the same data.source, data.root and data.labels"
        )
    if other.test_digest != first.test_digest:
        ours, theirs = asdict(first.recipe.data), asdict(other.recipe.data)
        keys = [key for key in ("source", "root", "labels", "splits") if ours[key] != theirs[key]]
        named = " and ".join(f"data.{key}" for key in keys) or "the data"
        raise UserError(
            f"{first_name} and {name}: are not tested on the same images ({first.test_images} and "
            f"{other.test_images}); give both the same {named}"
        )
