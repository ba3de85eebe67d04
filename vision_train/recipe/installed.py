"""Packages that a recipe needs beside the engine: experiment trackers, and callbacks that other packages offer."""

from __future__ import annotations

from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points

from vision_train.errors import UserError
from vision_train.recipe.catalogue import nearest_names
from vision_train.recipe.recipe import Recipe

CALLBACKS = "vision_train.callbacks"
"""Group of the entry points by which other packages offer callbacks: ``NAME = "PACKAGE.MODULE:CLASS"``."""
DISTRIBUTIONS = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "mlflow-skinny"),
}
"""Tracker -> distributions of which one has to be installed."""


def check_installed(recipe: Recipe) -> None:
    """Refuse trackers and callbacks that are not installed, before anything heavy is imported.

    Raises:
        UserError: One is not.
    """
    for tracker in recipe.run.trackers:
        if not any(map(_is_installed, DISTRIBUTIONS[tracker])):
            raise UserError(
                f"run.trackers: {tracker} is not installed; pip install 'vision-train[{tracker}]', or take it out"
            )
    offered_callbacks(recipe)


def offered_callbacks(recipe: Recipe) -> list[EntryPoint]:
    """The entry points that ``trainer.callbacks`` names, in its order; nothing of them is imported.

    Raises:
        UserError: No installed package offers one of this name, or two do.
    """
    offered = entry_points(group=CALLBACKS)
    found = []
    for name in recipe.trainer.get("callbacks") or []:
        named = [each for each in offered if each.name == name]
        if not named:
            known = ", ".join(sorted(offered.names)) or "none"
            raise UserError(
                f"trainer.callbacks: no installed package offers {name}{nearest_names(name, offered.names)}; "
                f"installed: {known}. A package offers a callback by an entry point of the group {CALLBACKS}"
            )
        if len({each.value for each in named}) > 1:
            both = " and ".join(sorted({each.value for each in named}))
            raise UserError(f"trainer.callbacks: {both} are both called {name}; uninstall one of their packages")
        found.append(named[0])
    return found


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
