"""Every key of a recipe with its type, default and documentation, read from the sections themselves."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, replace
from typing import Any, get_type_hints, is_typeddict

from vision_train.errors import UserError
from vision_train.recipe.catalogue import nearest_names
from vision_train.recipe.kinds import describe, section_kinds, union_members
from vision_train.recipe.layers import KeyPath, join_keys, show
from vision_train.recipe.recipe import Recipe
from vision_train.tasks import TASKS


@dataclass(frozen=True)
class Key:
    """One key of a recipe."""

    path: KeyPath
    kind: str
    """Its type in words; empty for a section that only holds other keys."""
    default: str
    """As a recipe would write it; `required` if there is none, empty for a section that only holds other keys."""
    text: str

    @property
    def name(self) -> str:
        """The key as the command line writes it."""
        return join_keys(self.path)


FILE_KEYS = [
    Key(
        ("extends",),
        "text or a list of texts",
        "null",
        "Recipes or parts to start from, looked up beside the file, then among the built-in ones; merged left to "
        "right, the file itself last.",
    ),
    Key(("smoke",), "a mapping", "null", "Sections with sizes so small that a test can train them in seconds."),
]
"""What a file may say beside the sections; gone once it is resolved."""


def explain(task: str | None = None) -> list[Key]:
    """Document every key that a recipe may hold, in the order of the sections.

    Args:
        task: Whose `method` keys to include; None includes every task's, each saying whose it is.

    Raises:
        UserError: There is no such task.
    """
    if task is not None and task not in TASKS:
        raise UserError(f"{task}: no task of this name{nearest_names(task, TASKS)}")
    if task is not None:
        return [*FILE_KEYS, *section_keys(task)]
    keys = [*FILE_KEYS, *section_keys(None)]
    place = next(index for index, key in enumerate(keys) if key.path == ("method",))
    inside = [
        replace(key, text=f"For the task `{each}`: {key.text}")
        for each in TASKS
        for key in section_keys(each)
        if key.path[0] == "method" and len(key.path) > 1
    ]
    return [*keys[: place + 1], *inside, *keys[place + 1 :]]


def section_keys(task: str | None) -> Iterator[Key]:
    """Yield every key of the sections; those inside `method` only for a task that exists."""
    docs, defaults = field_docs(Recipe), _defaults(Recipe)
    for name, kind in section_kinds(task).items():
        yield from _keys(kind, (name,), defaults.get(name, MISSING), docs.get(name, ""))


def _keys(kind: Any, path: KeyPath, default: Any, text: str) -> Iterator[Key]:
    """Yield a key and those inside it. A section as such has neither type nor default, unless it may be null."""
    section = next((member for member in union_members(kind) if _is_section(member)), None)
    if section is kind or kind is Any:
        yield Key(path, "", "", text)
    else:
        yield Key(path, describe(kind), "required" if default is MISSING else _show_default(default), text)
    if section is None:
        return
    docs, defaults = field_docs(section), _defaults(section)
    for name, inner in get_type_hints(section).items():
        yield from _keys(inner, (*path, name), defaults.get(name, MISSING), docs.get(name, ""))


@functools.cache
def field_docs(section: type) -> dict[str, str]:
    """Return the docstring under each field of a class, on one line; a field without one is left out."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in itertools.pairwise(tree.body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


def _is_section(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or is_typeddict(kind)


def _defaults(section: Any) -> dict[str, Any]:
    """Return the default of each field that has one; a TypedDict leaves an absent key to Lightning's own default."""
    if is_typeddict(section):
        return dict.fromkeys(section.__optional_keys__, "Lightning's")
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        if field.default is not MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not MISSING:
            defaults[field.name] = field.default_factory()
    return defaults


def _show_default(default: Any) -> str:
    if isinstance(default, str):
        return default or "''"
    if isinstance(default, tuple):
        return str(list(default))
    return "{}" if default == {} else show(default)
