"""Callbacks of other packages, by the names of their entry points."""

from __future__ import annotations

from pytorch_lightning import Callback

from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.recipe.installed import CALLBACKS, offered_callbacks


def installed_callbacks(recipe: Recipe) -> list[Callback]:
    """What ``trainer.callbacks`` names, each made without arguments; the recipe is ``pl_module.recipe``.

    Raises:
        UserError: No package offers it, or what it offers cannot be imported or is no callback.
    """
    made = []
    for entry in offered_callbacks(recipe):
        place = f"trainer.callbacks={entry.name}: {entry.value}"
        try:
            kind = entry.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"{place} cannot be imported ({error}); mend or uninstall its package") from error
        if not (isinstance(kind, type) and issubclass(kind, Callback)):
            raise UserError(
                f"{place} is no Callback of pytorch_lightning; its package has to name one under [{CALLBACKS}]"
            )
        made.append(kind())
    return made
