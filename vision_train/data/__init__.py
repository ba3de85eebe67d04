"""Data on disk, as batches for one task. Importing this package loads nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vision_train.data.images import ImageDataModule
    from vision_train.recipe.recipe import Recipe


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> ImageDataModule:
    """Read and check the data that a recipe names.

    Args:
        recipe: Its ``data``, ``augment`` and ``seed`` matter here.
        classes: Label map of an earlier run; None takes the sorted names found.
        only: Evaluate this one split of other data than the run's own: nothing is cut from it or drawn.

    Raises:
        UserError: The data cannot be used as it is.
    """
    from vision_train.data.images import ImageDataModule

    return ImageDataModule(recipe.data, recipe.augment, recipe.seed, classes, only)
