"""From a name or path to a checked Recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from vision_train.errors import UserError
from vision_train.recipe.automatic import AutomaticKeys
from vision_train.recipe.catalogue import builtin_recipes, find_recipe, nearest_names, recipe_name
from vision_train.recipe.earlier import upgraded
from vision_train.recipe.layers import COMMAND_LINE, Layer, LayeredValues, Mistake, Origin, show
from vision_train.recipe.plain import escaped
from vision_train.recipe.read import override_layer, read_file_layers
from vision_train.recipe.recipe import Recipe
from vision_train.recipe.remote import is_remote
from vision_train.recipe.run_section import Run
from vision_train.recipe.validate import Validator

Section = TypeVar("Section", bound=Any)


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
    layered, sources = merge_files(file, overrides, smoke=smoke)
    validator = Validator(layered.merged.origin_of, runnable=runnable)
    recipe = validator.recipe(layered.resolve())
    if runnable and isinstance(recipe.run, Run):
        _check_pretrain(recipe.run.pretrain, validator)
    conflicting = {mistake.path for mistake in layered.mistakes}
    others = [mistake for mistake in validator.mistakes if mistake.path not in conflicting]
    _refuse(name_or_path, [*layered.mistakes, *others], sources)
    return _with_absolute_paths(recipe)


def recipe_of(plain: dict[str, Any], source: str) -> Recipe:
    """A recipe from plain values, such as those that a checkpoint holds; of an earlier version with today's keys.

    Args:
        plain: As ``to_plain`` or an earlier version made them.
        source: What messages call them.

    Raises:
        UserError: They are no recipe of today.
    """
    layer = upgraded(Layer(Origin(source), escaped(plain)))
    layered = LayeredValues(layer.origin)
    layered.add(layer)
    validator = Validator(layered.merged.origin_of, runnable=False)
    recipe = validator.recipe(layered.resolve())
    _refuse(source, validator.mistakes, [source])
    return recipe


def merge_files(file: Path, overrides: Sequence[str] = (), *, smoke: bool = False) -> tuple[LayeredValues, list[str]]:
    """Lay files, smoke sizes and overrides over one another; also return the sources in that order."""
    files = read_file_layers(file)
    layered = LayeredValues(files[-1].origin)
    layered.add(Layer(files[-1].origin, {"name": recipe_name(file)}))
    small_sizes: list[Layer] = []
    automatic = AutomaticKeys()
    for layer in map(upgraded, files):
        value, sizes = layer.pop("smoke")
        if value is not None and not isinstance(value, dict):
            layered.mistakes.append(Mistake(("smoke",), sizes.origin, f"is {show(value)}; expected a mapping"))
        small_sizes.append(sizes)
        layered.add(automatic.without_auto(layer))
    typed = [override_layer(override, place) for place, override in enumerate(overrides, start=1)]
    for layer in [*(small_sizes if smoke else []), *typed]:
        layered.add(automatic.without_auto(layer))
    layered.add(automatic.noted(files[-1].origin))
    return layered, [*(layer.origin.source for layer in files), COMMAND_LINE]


def _check_pretrain(name: str | None, validator: Validator) -> None:
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
    run = recipe.run
    if run.pretrain is not None and run.pretrain not in builtin_recipes():
        run = replace(run, pretrain=_absolute(run.pretrain))
    sections = {name: _absolute_fields(getattr(recipe, name)) for name in ("data", "model", "semi")}
    return replace(recipe, **sections, run=run)


def _absolute_fields(section: Section) -> Section:
    """Make the fields absolute whose metadata say that they hold paths, alone, in lists or mapped; words stay."""
    held = {each.name: (getattr(section, each.name), each.metadata.get("words", ())) for each in fields(section)}
    named = {each.name for each in fields(section) if each.metadata.get("path")}
    paths = {name: value for name, (value, words) in held.items() if name in named and value not in words}
    texts: dict[str, Any] = {name: _absolute(path) for name, path in paths.items() if isinstance(path, str)}
    for name, parts in paths.items():
        if isinstance(parts, dict) and all(isinstance(path, str) for path in parts.values()):
            texts[name] = {part: _absolute(path) for part, path in parts.items()}
        if isinstance(parts, list) and all(isinstance(path, str) for path in parts):
            texts[name] = [_absolute(path) for path in parts]
    return replace(section, **texts)


def _absolute(path: str) -> str:
    if is_remote(path):
        return path
    return str(Path(os.path.abspath(Path(path).expanduser())))  # noqa: PTH100 - keeps links
