"""What a recipe names and is not there, found before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.processes import launched_rank
from vision_train.recipe import Recipe, load_recipe
from vision_train.recipe.installed import check_installed
from vision_train.recipe.remote import is_remote
from vision_train.run.directory import RunDirectory, refuse_taken


def check_fit(recipe: Recipe, run_dir: Path | None) -> None:
    """Refuse to train what names places or packages that are not there, or to where another run lies.

    Args:
        recipe: Of the run.
        run_dir: Where it is to go; None for a new place of its own.

    Raises:
        UserError: It is so.
    """
    check_installed(recipe)
    check_places(recipe)
    if run_dir is not None and launched_rank() == 0:  # which has filled it before others come here
        refuse_taken(run_dir)


def check_places(recipe: Recipe) -> None:
    """Refuse a recipe whose data, weights or pre-training recipe are not there.

    Raises:
        UserError: Lists each of them, with its key.
    """
    absent = [*_absent_data(recipe), *_absent_weights(recipe)]
    if len(absent) == 1:
        raise UserError(absent[0])
    if absent:
        raise UserError("\n  ".join([f"{recipe.name}: {len(absent)} places are not there", *absent]))
    if recipe.run.pretrain is not None:
        load_recipe(recipe.run.pretrain, runnable=False)  # for its mistakes


def check_root(recipe: Recipe) -> None:
    """Refuse a folder of samples that is not there.

    Raises:
        UserError: The folder is absent.
    """
    root = recipe.data.root
    if root is not None and not Path(root).exists():
        raise UserError(_root_absent(recipe, root))


def _absent_data(recipe: Recipe) -> list[str]:
    said = []
    for each in fields(recipe.data):
        value = getattr(recipe.data, each.name)
        # Other paths of the section have readers with remedies of their own.
        if "path" not in each.metadata or not each.metadata.keys() & {"identity", "words"}:
            continue
        words = each.metadata.get("words", ())
        for place in _paths(value):
            if place not in words and not Path(place).exists():
                root = each.name == "root"
                said.append(_root_absent(recipe, place) if root else _absent(f"data.{each.name}", place, words))
    return said


def _paths(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [each for each in value.values() if isinstance(each, str)]
    return [value] if isinstance(value, str) else []


def _root_absent(recipe: Recipe, root: str) -> str:
    return f"data.root {printable(root)}: no such folder; say where the {recipe.kind.noun} are with data.root=FOLDER"


def _absent(key: str, place: str, words: Sequence[str]) -> str:
    said = f"{key} {printable(place)}: no such file or folder; name one that is there with {key}"
    return said + (f", or say {' or '.join(f'`{word}`' for word in words)}" if words else "")


def _absent_weights(recipe: Recipe) -> list[str]:
    starts = dict.fromkeys(recipe.model.start.values())
    return [
        f"model.checkpoint {printable(file)}: does not exist; {_remedy(Path(file))}"
        for file in starts
        if not is_remote(file) and not Path(file).exists()
    ]


def _remedy(file: Path) -> str:
    run, named = RunDirectory(file.parent), "name a weights file, a folder of one or a run directory"
    if file == run.weights:
        return f"a run writes this file as it ends: wait for the end of {printable(str(run.path))}, or {named}"
    return named
