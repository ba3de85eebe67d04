"""Which phases a run has, and what can be said of them before the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vision_train.checkpoints import Weights, fresh_names, match_weights
from vision_train.errors import UserError
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.phase import Prepared
from vision_train.run.trainer import HARDWARE, build_trainer, plan_steps

Phases = list[tuple[str, Recipe]]
"""Names and recipes in the order of training; the last is called ``fit``."""


def plan_phases(recipe: Recipe) -> Phases:
    """The phases of a run: what ``run.pretrain`` names, and before it what that names, then the recipe itself.

    Every phase takes the seed and the hardware of the recipe that was asked for, and its images where an earlier phase
    names none of its own.

    Raises:
        UserError: The recipes pre-train one another in a circle, or one is to start from a checkpoint as well.
    """
    chain = [recipe]
    while chain[0].run.pretrain:
        if chain[0].model.checkpoint:
            both = f"model.checkpoint={chain[0].model.checkpoint} and run.pretrain={chain[0].run.pretrain}"
            raise UserError(f"{both}: {chain[0].name} can start from one of them; set the other to null")
        earlier = load_recipe(chain[0].run.pretrain, runnable=False)
        if any(earlier.name == known.name for known in chain):
            raise UserError(f"run.pretrain={earlier.name}: {recipe.name} and it pre-train one another in a circle")
        hardware = {key: value for key, value in recipe.trainer.items() if key in HARDWARE}
        kept = {key: value for key, value in earlier.trainer.items() if key not in HARDWARE}
        data = earlier.data
        if data.source == "images" and data.root is None and data.labels is None:
            asked = recipe.data
            splits = data.splits or asked.splits
            data = replace(data, source=asked.source, root=asked.root, labels=asked.labels, splits=splits)
        chain.insert(0, replace(earlier, data=data, seed=recipe.seed, trainer={**kept, **hardware}))
    names = ["pretrain"] if len(chain) == 2 else [f"pretrain-{index + 1}" for index in range(len(chain) - 1)]
    return list(zip([*names, "fit"], chain, strict=True))


def stored_phases(directory: RunDirectory) -> Phases:
    """The phases of a run that has begun, as it began: a pre-training recipe edited or moved since changes nothing."""
    earlier = sorted(path.parent for path in directory.path.glob("phases/pretrain*/recipe.yaml"))
    recipes = [(folder.name, load_recipe(folder / "recipe.yaml")) for folder in earlier]
    return [*recipes, ("fit", load_recipe(directory.recipe, runnable=False))]


def check_handover(earlier: Prepared, later: Prepared) -> None:
    """Refuse now what loading the earlier phase's weights would refuse once they are trained."""
    weights = Weights(earlier.task.network.state_dict(), Path(earlier.recipe.name), file_format="", container="")
    try:
        match_weights(
            later.task.network,
            weights,
            adapt=later.task.adapt_published,
            heads=later.task.heads,
            fresh=fresh_names(later.task.network, later.recipe.model),
            min_matched_share=later.recipe.model.min_matched_share,
        )
    except UserError as error:
        raise UserError(f"run.pretrain={error}") from error


def warm_up_note(prepared: Prepared) -> str | None:
    """Say so if training ends before the learning rate has reached its peak."""
    recipe, steps = prepared.recipe, prepared.recipe.optim.warmup_steps
    if steps:
        _, total = plan_steps(recipe, prepared.data, build_trainer(recipe, []))
        ends = f"{steps:,} steps and training {total:,}: it ends before the full learning rate; see optim.warmup_steps"
        return ends if steps >= total else None
    epochs, warm_up = recipe.trainer["max_epochs"], recipe.optim.warmup_epochs
    if warm_up < epochs:
        return None
    return f"{warm_up:g} epochs and training {epochs}: it ends before the full learning rate; see optim.warmup_epochs"
