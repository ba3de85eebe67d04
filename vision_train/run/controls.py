"""What learning from unlabelled samples is compared with: recipes that use the same labels otherwise.

Pure functions of recipes. A control learns from labelled samples alone, as the recipe does that it is made of: in its
batches, views and steps. Who plans a comparison sets how many steps these are.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from vision_train.data.kind import LABELLED, REST
from vision_train.data.unlabelled import LISTS
from vision_train.errors import UserError
from vision_train.recipe import Recipe, load_recipe
from vision_train.recipe.catalogue import recipes_to_start_from
from vision_train.recipe.lora_section import Lora
from vision_train.recipe.sections import ALL_BUT_HEAD
from vision_train.recipe.semi_section import Semi


def frozen_recipe(recipe: Recipe) -> Recipe:
    """The recipe that trains the head alone, on a network that stays as its checkpoint left it.

    Raises:
        UserError: The recipe starts from random weights.
    """
    _check_start(recipe, "a head on a frozen network")
    return replace(recipe, semi=Semi(), model=replace(recipe.model, freeze=ALL_BUT_HEAD, freeze_first=None, lora=None))


def lora_recipe(recipe: Recipe, rank: int) -> Recipe:
    """The recipe that trains the head and low-rank adapters, of which all layers learn at one rate.

    Rates that fall layer by layer keep what early layers know; adapters keep it anyway.

    Raises:
        UserError: The recipe starts from random weights.
    """
    _check_start(recipe, "low-rank adapters")
    model = replace(recipe.model, freeze=[], freeze_first=None, lora=Lora(rank))
    return replace(recipe, semi=Semi(), model=model, optim=replace(recipe.optim, layer_decay=None))


def _check_start(recipe: Recipe, what: str) -> None:
    if not recipe.model.start and not recipe.run.pretrain:
        raise UserError(
            f"model.checkpoint: {recipe.name} starts from random weights, and {what} needs some that know images; "
            "name a file or run, or leave this control out"
        )


def pretrain_on_pool(recipe: Recipe) -> Recipe:
    """The recipe behind a phase that learns from its pool without any label, by a recipe that ships with us.

    Images of the pool's folder are learnt from; of a pool that is the rest of the labelled source, all of that source
    but what is validated and tested on.

    Raises:
        UserError: The recipe starts from other weights, its pool is no folder of images beyond the labelled ones, or no
            recipe learns without labels on its network.
    """
    if recipe.model.start or recipe.run.pretrain:
        key = "run.pretrain" if recipe.run.pretrain else "model.checkpoint"
        raise UserError(f"{key}: {recipe.name} starts from weights already; leave pre-training on the pool out")
    pool = getattr(recipe.data, "unlabelled", None)
    if pool in (None, LABELLED) or Path(str(pool)).suffix in LISTS:
        raise UserError(
            f"data.unlabelled={pool}: pre-training takes the images of a folder, or the rest of the labelled source; "
            "leave this control out"
        )
    suiting = (name for name, earlier in _without_labels().items() if _suits(earlier, recipe, of_folder=pool != REST))
    if (name := next(suiting, None)) is None:
        raise UserError(
            f"semi.verdict.pretrain: no recipe that ships with us learns {recipe.model.name} with these model.args and "
            "samples without labels; leave this control out"
        )
    return replace(recipe, semi=Semi(), run=replace(recipe.run, pretrain=name))


@cache
def _without_labels() -> dict[str, Recipe]:
    """Recipes that ship with us whose kind of data has no labels to be judged by, by name."""
    loaded = {name: load_recipe(name, runnable=False) for name in recipes_to_start_from()}
    return {name: recipe for name, recipe in loaded.items() if recipe.kind.judged != "test"}


def _suits(earlier: Recipe, recipe: Recipe, *, of_folder: bool) -> bool:
    """Whether a recipe teaches this network, on samples that it leaves open or that are this recipe's too."""
    own, asked = earlier.model, recipe.model
    same = own.name == asked.name and all(asked.args.get(key) == value for key, value in own.args.items())
    is_open = any(earlier.data.unset())
    return same and (is_open or (not of_folder and earlier.data.source == recipe.data.source))
