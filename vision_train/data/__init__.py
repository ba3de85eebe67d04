"""Data on disk, as batches for one task. Importing this package loads nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vision_train.tasks import TASKS

if TYPE_CHECKING:
    from vision_train.data.dataset import Sample
    from vision_train.data.module import SampleDataModule
    from vision_train.recipe.recipe import Recipe

UNLABELLED = "unlabelled images"
"""Kind of data, as a task's options name it, that needs no labels."""
BAGS = "bags"
"""Kind of data whose samples are bags of instances."""


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> SampleDataModule:
    """Read and check the data that a recipe names, of the kind that its task trains on.

    Args:
        recipe: Its ``task``, ``data``, ``augment`` and ``seed`` matter here.
        classes: Label map of an earlier run; None takes the sorted names found.
        only: Evaluate this one split of other data than the run's own: nothing is cut from it or drawn.

    Raises:
        UserError: The data cannot be used as it is.
    """
    if _kind(recipe) == BAGS:
        from vision_train.data.bags.module import labelled_bags

        return labelled_bags(recipe.data, recipe.seed, classes, only)
    if _kind(recipe) == UNLABELLED:
        from vision_train.data.unlabelled import unlabelled_images

        return unlabelled_images(recipe.data, recipe.augment, recipe.seed, only)
    from vision_train.data.images import labelled_images

    return labelled_images(recipe.data, recipe.augment, recipe.seed, classes, only)


def all_samples(recipe: Recipe) -> Sequence[Sample]:
    """Every image or bag that a recipe names, whatever the seed draws of them.

    Raises:
        UserError: The data cannot be used as it is.
    """
    from vision_train.data.sources import read_samples

    if _kind(recipe) == BAGS:
        from vision_train.data.bags.module import read_bag_samples

        return read_bag_samples(recipe.data, recipe.seed).samples
    if _kind(recipe) == UNLABELLED:
        from vision_train.data.unlabelled import labelled_samples

        pool = read_samples(recipe.data, labelled=False)
        return [*pool, *labelled_samples(pool, recipe.data)]
    return read_samples(recipe.data)


def judged_split(recipe: Recipe) -> str:
    """The split that a finished run is measured on; without labels, there is nothing to test."""
    return "val" if _kind(recipe) == UNLABELLED else "test"


def noun(recipe: Recipe) -> str:
    """What a recipe's samples are, in the plural."""
    return "bags" if _kind(recipe) == BAGS else "images"


def _kind(recipe: Recipe) -> str:
    kind: str = importlib.import_module(f"{TASKS[recipe.task]}.options").DATA
    return kind
