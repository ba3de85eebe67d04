"""Which recipes there are, and which file a name means."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

import vision_train
from vision_train.errors import UserError

STUDIES = "studies/"
"""Beginning of the names of recipes that are arms of a study."""


def recipes_folder() -> Path:
    """Return the folder of the built-in recipes, beside the installed package."""
    return Path(vision_train.__file__).resolve().parents[1] / "recipes"


def builtin_files() -> dict[str, Path]:
    """Return every built-in file by its name (`classification/vit_small`), the shared `_parts/...` included."""
    folder = recipes_folder()
    files = sorted(folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def builtin_recipes() -> list[str]:
    """Return the names of all recipes that ship with the package, sorted; what they share (`_parts`) left out."""
    return [name for name in builtin_files() if not is_shared(name)]


def recipes_to_start_from() -> list[str]:
    """Return the built-in recipes without the arms of studies, which serve as comparisons and lie in `studies/`."""
    return [name for name in builtin_recipes() if not name.startswith(STUDIES)]


def _builtin_file(name: str) -> Path | None:
    """The built-in file of a name, without looking through all of them; None where there is none."""
    parts = name.split("/")
    file = recipes_folder().joinpath(*parts[:-1], f"{parts[-1]}.yaml")
    return file if not {"", ".", ".."} & {*parts} and file.is_file() else None


def is_shared(name: str) -> bool:
    """Whether a built-in name is that of what recipes share, in `_parts`, rather than of a recipe."""
    return any(part.startswith("_") for part in name.split("/"))


def recipe_name(file: Path) -> str:
    """Return the name of the recipe in a file: the built-in name, or the file's stem for anyone else's."""
    absolute, folder = file.resolve(), recipes_folder()
    if absolute.is_relative_to(folder):
        return absolute.relative_to(folder).with_suffix("").as_posix()
    return absolute.stem


def existing_recipe(name_or_path: str) -> Path | None:
    """Return the file of a recipe as :func:`find_recipe` does, or None where there is none."""
    if not is_shared(name_or_path) and (builtin := _builtin_file(name_or_path)) is not None:
        return builtin
    path = Path(name_or_path).expanduser()
    return next((candidate for candidate in (path, with_yaml(path)) if candidate.is_file()), None)


def find_recipe(name_or_path: str) -> Path:
    """Return the file of a recipe: a built-in name first, then a path, with or without `.yaml`.

    Raises:
        UserError: There is no such recipe; the message lists the nearest names.
    """
    if (found := existing_recipe(name_or_path)) is not None:
        return found
    path = Path(name_or_path).expanduser()
    if (path / "recipe.yaml").is_file():
        raise UserError(f"{name_or_path}: is a run directory; its recipe is {path / 'recipe.yaml'}")
    if name_or_path and path.is_dir():
        raise UserError(f"{name_or_path}: is a folder; name a recipe in it, a YAML file")
    beside = [str(path.parent / other.name) for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    raise UserError(
        f"{name_or_path}: no recipe or file of this name{nearest_names(name_or_path, [*builtin_recipes(), *beside])}; "
        "`vision-train recipes --all` lists them all"
    )


def find_extended(name: str, beside: Path) -> Path | None:
    """Return the file that `extends: name` means in the file ``beside``, or None.

    Files beside it come first, then the built-in ones with their `_parts`.
    """
    path = beside.parent / Path(name).expanduser()
    for candidate in (path, with_yaml(path)):
        if candidate.is_file():
            return candidate
    return _builtin_file(name.removesuffix(".yaml"))


def with_yaml(path: Path) -> Path:
    """Return the path with `.yaml` appended; unlike ``with_suffix`` it keeps dots within the name."""
    return path.with_name(f"{path.name}.yaml") if path.name else path


def nearest_names(name: str, names: Collection[str], count: int = 3) -> str:
    """Return `; did you mean ...?` with the nearest names, or nothing where none is near.

    The last part alone counts too: `vit_small` is near `classification/vit_small`. A name with the same last part comes
    first.
    """
    last_parts: dict[str, list[str]] = {}
    for full in sorted(names):
        last_parts.setdefault(full.rsplit("/", 1)[-1], []).append(full)
    last = name.rsplit("/", 1)[-1]
    near = [full for full in last_parts.get(last, ()) if "/" in full]
    near += [full for part in difflib.get_close_matches(last, last_parts, n=count) for full in last_parts[part]]
    near += difflib.get_close_matches(name, names, n=count)
    near = list(dict.fromkeys(near))[:count]
    return f"; did you mean {' or '.join(near)}?" if near else ""
