"""The recipe of a finished run as it measures and predicts; light, so that mistakes in it are told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from vision_train.errors import UserError
from vision_train.recipe import Recipe, load_recipe
from vision_train.recipe.sections import Mixing
from vision_train.run.directory import open_run
from vision_train.run.places import check_root
from vision_train.run.predictions import ENDINGS, RESULTS, check_outputs
from vision_train.run.shards import Shard
from vision_train.run.texts import check_texts
from vision_train.tasks import check_views

DEFAULT = Path("predictions.jsonl")
"""Where predictions of several samples go that nobody named a place for."""
ONE_PROCESS = {"devices": 1, "strategy": "auto", "num_nodes": 1}


def load_for_inference(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """A run's recipe without what only training needs: a start, mixing, other processes, accumulation, limits.

    Memory-efficient attention, which the training machine had, gives way to what this machine can do, unless asked for
    in ``overrides``; results agree.

    Raises:
        UserError: An override is mistaken.
    """
    trained = load_recipe(path, runnable=False)
    anywhere = ["model.attention=auto"] if trained.model.attention == "xformers" else []
    recipe = load_recipe(path, [*anywhere, *overrides])
    wanted = ("accelerator", "precision", "deterministic", "benchmark", "limit_test_batches")
    trainer = {key: value for key, value in recipe.trainer.items() if key in wanted}
    return replace(
        recipe,
        model=replace(recipe.model, checkpoint=None, lora=None),  # adapters are merged when weights are read
        augment=replace(recipe.augment, mixing=Mixing()),
        trainer={**trainer, **ONE_PROCESS},
    )


def check_evaluation(run: Path, split: str | None, overrides: Sequence[str], views: str | None = None) -> None:
    """Refuse to evaluate what is no finished run, on a split or data that are not there, or views that there are not.

    The arguments are those of :func:`vision_train.run.evaluate.evaluate_run`.

    Raises:
        UserError: One of them is so.
    """
    recipe = load_for_inference(open_run(run, with_weights=True).recipe, overrides)
    check_split(recipe, split or recipe.kind.judged)
    if views is not None:
        check_views(recipe, views)
    check_root(recipe)


def check_split(recipe: Recipe, split: str) -> None:
    """Refuse a split that the kind of data has not.

    Raises:
        UserError: It is unknown.
    """
    if split not in recipe.kind.splits:
        raise UserError(f"--split {split}: is unknown; there are {', '.join(recipe.kind.splits)}")


def check_prediction(
    run: Path,
    overrides: Sequence[str],
    *,
    out: Path | None,
    render: Path | None,
    images: Path | None,
    texts: Sequence[str],
    force: bool,
    shard: Shard | None = None,
) -> Recipe:
    """Refuse to predict with what is no finished run, or with options that do not suit it.

    The arguments are those of :func:`vision_train.run.predict.predict_run`.

    Returns:
        The recipe of the run, for inference.

    Raises:
        UserError: There is no such run, a key or an option is mistaken, or a place cannot be written or is taken.
    """
    if images and not render:
        raise UserError("--images: is for pictures; say where to put them with --render DIR")
    directory = open_run(run, with_weights=True)
    check_texts(run, texts)
    _refuse_places(load_recipe(directory.recipe, runnable=False), overrides)
    recipe = load_for_inference(directory.recipe, overrides)
    if shard is not None:
        _check_shard(recipe, render, texts)
        # Which shards are there already, and whether they are whole, their manifests say.
        out, force = shard.place(out or DEFAULT), True
    check_outputs(out, render, ENDINGS if recipe.kind.results is None else (*ENDINGS, RESULTS), force=force)
    return recipe


def _refuse_places(recipe: Recipe, overrides: Sequence[str]) -> None:
    """Refuse keys that say where samples lie: nothing would be read there.

    Raises:
        UserError: There is one.
    """
    if recipe.kind.results is not None:
        return  # a file of results says what annotations call images and classes
    places = {f"data.{each.name}" for each in fields(recipe.data) if each.metadata.get("path")}
    if named := [key for key in (override.partition("=")[0] for override in overrides) if key in places]:
        raise UserError(
            f"{named[0]}: predict reads the inputs that it is given and nothing else; leave the key out. Paths in a "
            "csv are relative to its folder"
        )


def _check_shard(recipe: Recipe, render: Path | None, texts: Sequence[str]) -> None:
    """Refuse a share of what cannot be shared out.

    Raises:
        UserError: The samples are of another kind, or pictures are asked for.
    """
    if not recipe.kind.takes_shares or texts:
        raise UserError(f"--shard: is for images alone, not for {'texts' if texts else recipe.kind.noun}; leave it out")
    if render is not None:
        raise UserError("--render: draws one folder of pictures, and a shard is one of many; leave out --shard for it")
