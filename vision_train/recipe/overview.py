"""What the built-in recipes are for, what they set, and which of them words describe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vision_train.errors import UserError
from vision_train.importing import uncollected
from vision_train.recipe.catalogue import builtin_recipes, find_recipe, nearest_names, recipes_to_start_from
from vision_train.recipe.layers import KeyPath, join_keys
from vision_train.recipe.load import checked, merge_files
from vision_train.tasks import goal_of, task_packages

NOTHING_YET = "nothing yet: the data come with the installation"
"""What somebody has whose recipe brings its own data."""


@dataclass(frozen=True)
class Entry:
    """One built-in recipe as lists show it."""

    name: str
    description: str
    task: str
    given: str
    """What somebody has who takes it, in words."""
    goal: str
    """What training makes of that, in words; empty where recipes of several goals stand together."""
    bundled: bool
    """Whether its data come with the installation."""
    uses_pool: bool
    """Whether it learns from samples without labels beside those with."""
    written: Mapping[Any, Any]
    """What its file and those that it extends say, without defaults."""

    @property
    def order(self) -> tuple[int, bool]:
        """Place of its group: data that come with the installation first, then by tasks, those with a pool later."""
        return (-1, False) if self.bundled else ([*task_packages()].index(self.task), self.uses_pool)

    @property
    def group(self) -> str:
        """Title of the recipes that stand together with it."""
        title = f"{self.given} → {self.goal}" if self.goal else self.given
        return title[0].upper() + title[1:]

    def holds(self, word: str) -> bool:
        """Whether a word is part of its name, description, task, group, keys or values, in capitals or not."""
        said = [self.name, self.description, self.task, self.group, *_settings(self.written)]
        return any(word.lower() in text.lower() for text in said)


def entries(*, all_recipes: bool = False) -> list[Entry]:
    """The built-in recipes, those of a group together, groups and recipes in an order of their own.

    Args:
        all_recipes: Also the arms of studies.
    """
    names = builtin_recipes() if all_recipes else recipes_to_start_from()
    with uncollected():
        return sorted(map(_entry, names), key=lambda entry: (entry.order, entry.group, entry.name))


def _entry(name: str) -> Entry:
    """A recipe, and what one has and gets, from what it says of itself."""
    layered, sources = merge_files(find_recipe(name))
    recipe = checked(name, layered, sources, runnable=False)
    bundled = not any(True for _ in recipe.data.unset())
    uses_pool = recipe.semi.method != "none" or recipe.run.pretrain is not None
    own: str = getattr(recipe.data, "given", "")  # of sections that hold several sorts of data
    given = own or recipe.kind.given or recipe.kind.noun
    given = NOTHING_YET if bundled else f"few {given}, many without" if uses_pool else given
    goal = "" if bundled else goal_of(recipe.task)
    return Entry(name, recipe.description, recipe.task, given, goal, bundled, uses_pool, layered.merged.values)


def found(listed: Sequence[Entry], words: Iterable[str]) -> list[Entry]:
    """The recipes that hold all of the words.

    Raises:
        UserError: There is none; the message names the nearest words that there are.
    """
    words = [*words]
    if matching := [entry for entry in listed if all(map(entry.holds, words))]:
        return matching
    unknown = [word for word in words if not any(entry.holds(word) for entry in listed)]
    if not unknown:
        raise UserError(
            f"no recipe has all of the words {', '.join(words)}, though each is in one; leave out some of them"
        )
    known = {word for entry in listed for word in _words(entry)}
    raise UserError(
        f"{unknown[0]}: no recipe or file of this name, and no recipe says it"
        f"{nearest_names(unknown[0], known)}; `vision-train recipes --all` lists them all"
    )


def _words(entry: Entry) -> set[str]:
    """What can be searched for: names and keys whole, texts word by word."""
    texts = f"{entry.description} {entry.group}"
    return {entry.name, entry.task, *re.findall(r"[\w-]{3,}", texts), *_keys(entry.written)}


def _settings(values: Any, path: KeyPath = ()) -> Iterable[str]:
    """Each key with its value, as a command line has them."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if path or key not in ("smoke", "description"):
                yield from _settings(value, (*path, key))
    else:
        yield f"{join_keys(path)}={values}"


def _keys(values: Mapping[Any, Any]) -> set[str]:
    return {setting.partition("=")[0] for setting in _settings(values)}


def values_by_recipe(listed: Sequence[Entry], path: KeyPath) -> dict[str, Any]:
    """Name of each recipe that sets a key -> the value."""
    values = {}
    for entry in listed:
        inside: Any = entry.written
        for part in path:
            if not isinstance(inside, Mapping) or part not in inside:
                break
            inside = inside[part]
        else:
            values[entry.name] = inside
    return values
