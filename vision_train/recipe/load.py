"""From a name or path to a checked Recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from vision_train.errors import UserError
from vision_train.recipe.catalogue import builtin_recipes, find_recipe, nearest_names, recipe_name
from vision_train.recipe.layers import COMMAND_LINE, Layer, LayeredValues, Mistake, show
from vision_train.recipe.read import override_layer, read_file_layers
from vision_train.recipe.recipe import Recipe
from vision_train.recipe.validate import Validator


def load_recipe(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, smoke: bool = False, runnable: bool = True
) -> Recipe:
    """Read, merge, resolve and check a recipe.

    Args:
        name_or_path: A built-in name (`classification/vit_small`) or a YAML file.
        overrides: `key.path=value` each, the value as YAML; laid over the files in order.
        smoke: Lay the small sizes that the recipe declares under `smoke` over it, before the overrides.
        runnable: Demand what only the user can give (`data.root`). False shows or compares a recipe as it ships.

    Raises:
        UserError: Lists every mistake: file, line, key, what is wrong, the nearest valid name.
    """
    file = find_recipe(str(name_or_path))
    layered, sources = _merge(file, overrides, smoke=smoke)
    validator = Validator(layered.merged.origin_of, runnable=runnable)
    recipe = validator.recipe(layered.resolve())
    if runnable:
        _check_pretrain(recipe, validator)
    conflicting = {mistake.path for mistake in layered.mistakes}
    others = [mistake for mistake in validator.mistakes if mistake.path not in conflicting]
    _refuse(name_or_path, [*layered.mistakes, *others], sources)
    return _with_absolute_paths(recipe)


def _merge(file: Path, overrides: Sequence[str], *, smoke: bool) -> tuple[LayeredValues, list[str]]:
    """Lay files, smoke sizes and overrides over one another; also return the sources in that order."""
    files = read_file_layers(file)
    layered = LayeredValues(files[-1].origin)
    layered.add(Layer(files[-1].origin, {"name": recipe_name(file)}))
    small_sizes: list[Layer] = []
    for layer in files:
        value, sizes = layer.pop("smoke")
        if value is not None and not isinstance(value, dict):
            layered.mistakes.append(Mistake(("smoke",), sizes.origin, f"is {show(value)}; expected a mapping"))
        small_sizes.append(sizes)
        layered.add(layer)
    typed = [override_layer(override, place) for place, override in enumerate(overrides, start=1)]
    for layer in [*(small_sizes if smoke else []), *typed]:
        layered.add(layer)
    return layered, [*(layer.origin.source for layer in files), COMMAND_LINE]


def _check_pretrain(recipe: Recipe, validator: Validator) -> None:
    name = recipe.run.pretrain
    if name is None or name in builtin_recipes() or Path(name).expanduser().is_file():
        return
    if Path(name).expanduser().is_dir():
        message = f"is {show(name)}, a folder; to start from a finished run, set it as model.checkpoint"
        validator.report(("run", "pretrain"), f"{message}, and run.pretrain=null")
        return
    message = f"is {show(name)}, which is neither a built-in recipe nor a file{nearest_names(name, builtin_recipes())}"
    validator.report(("run", "pretrain"), message)


def _refuse(name: str | Path, mistakes: Iterable[Mistake], sources: Sequence[str]) -> None:
    """Raise one error that lists every mistake in the order it was written, or return if there is none."""

    def place(mistake: Mistake) -> tuple[int, int]:
        origin = mistake.origin
        return (len(sources), 0) if origin is None else (sources.index(origin.source), origin.line or 0)

    ordered = sorted(mistakes, key=place)
    if len(ordered) == 1:
        raise UserError(str(ordered[0]))
    if ordered:
        raise UserError("\n  ".join([f"{name}: {len(ordered)} mistakes", *map(str, ordered)]))


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """Relative paths mean the working directory; made absolute, they mean the same anywhere."""
    data = recipe.data
    splits = _absolute(data.splits) if isinstance(data.splits, str) else data.splits
    data = replace(data, root=_absolute(data.root), labels=_absolute(data.labels), probe=_absolute(data.probe))
    data = replace(data, splits=splits)
    start = recipe.model.checkpoint
    parts = {part: _absolute(file) or file for part, file in start.items()} if isinstance(start, dict) else _absolute(start)
    model = replace(recipe.model, checkpoint=parts)
    run = recipe.run
    if run.pretrain not in builtin_recipes():
        run = replace(run, pretrain=_absolute(run.pretrain))
    return replace(recipe, data=data, model=model, run=run)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(os.path.abspath(Path(path).expanduser())))  # noqa: PTH100 - keeps links
