"""Every key of a recipe with its type, default and documentation, read from the sections themselves."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, replace
from typing import Any, is_typeddict

from vision_train.errors import UserError
from vision_train.recipe.catalogue import nearest_names
from vision_train.recipe.kinds import describe, field_kinds, section_kinds, union_members
from vision_train.recipe.layers import KeyPath, join_keys, show
from vision_train.recipe.recipe import Recipe
from vision_train.recipe.run_section import AUTOMATIC
from vision_train.tasks import task_options, task_packages


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


TYPED_BY_TASK = ("data", "method")
"""Sections whose keys depend on the task."""


def explain(task: str | None = None) -> list[Key]:
    """Document every key that a recipe may hold, in the order of the sections.

    Args:
        task: Whose keys to include; None includes those of all tasks. A key that not all tasks have says whose it is.

    Raises:
        UserError: There is no such task.
    """
    tasks = task_packages()
    if task is not None and task not in tasks:
        raise UserError(f"{task}: no task of this name{nearest_names(task, tasks)}")
    if task is not None:
        return [*FILE_KEYS, *section_keys(task)]
    inside = _keys_by_task([*tasks])
    keys = list(FILE_KEYS)
    for key in section_keys(None):
        keys.append(replace(key, text=f"{key.text} {_tasks_in_words()}") if key.path == ("task",) else key)
        keys += inside.get(str(key.path[0]), []) if len(key.path) == 1 else []
    return keys


def nearest_keys(name: str, keys: Sequence[Key]) -> str:
    """Return `; did you mean ...?` with the keys nearest to a name, or nothing where none is near.

    The last part counts alone too: `lr` is that of `optim.lr`. So does what the section has, where it is right, and how
    the documentation of a key begins: `learning_rate` is `optim.lr`.
    """
    names = [*dict.fromkeys(key.name for key in keys)]
    section, _, last = name.rpartition(".")
    exact = [each for each in names if each.rpartition(".")[2] == last]
    beside = [each for each in names if each.rpartition(".")[0] == section] if section else []
    if exact:
        return f"; did you mean {' or '.join(exact[:3])}?"
    near = difflib.get_close_matches(name, beside, n=3, cutoff=0.5)
    parts = {each.rpartition(".")[2]: each for each in reversed(names)}
    near += [parts[part] for part in difflib.get_close_matches(last, parts)]
    near += difflib.get_close_matches(name, names)
    if not near:  # what a key means may have the name that somebody knows
        words = last.replace("_", " ").lower()
        near = [key.name for key in keys if key.text.lower().startswith(words)]
    near = [*dict.fromkeys(near)][:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _keys_by_task(tasks: Sequence[str]) -> dict[str, list[Key]]:
    """The keys inside the sections that a task types, by section; keys that are the same for several tasks once."""
    owners: dict[Key, list[str]] = {}
    for task in tasks:
        for key in section_keys(task):
            if key.path[0] in TYPED_BY_TASK and len(key.path) > 1:
                owners.setdefault(key, []).append(task)
    found: dict[str, list[Key]] = {section: [] for section in TYPED_BY_TASK}
    for key, names in owners.items():
        named = f"For the task{'s' if len(names) > 1 else ''} `{'`, `'.join(names)}`: "
        text = key.text if len(names) == len(tasks) else f"{named}{key.text}"
        found[str(key.path[0])].append(replace(key, text=text))
    return found


def _tasks_in_words() -> str:
    """Each task with the first sentence of what it optimises."""
    described = {task: (task_options(task).Method.__doc__ or "").strip().split("\n")[0] for task in task_packages()}
    return " ".join(f"`{task}`: {text}" for task, text in described.items())


def section_keys(task: str | None) -> Iterator[Key]:
    """Yield every key of the sections; those inside `data` and `method` only for a task that exists."""
    docs, defaults = field_docs(Recipe), _defaults(Recipe)
    for name, kind in section_kinds(task).items():
        yield from _keys(kind, (name,), defaults.get(name, MISSING), docs.get(name, ""))


def _keys(kind: Any, path: KeyPath, default: Any, text: str) -> Iterator[Key]:
    """Yield a key and those inside it. A section as such has neither type nor default, unless it may be null."""
    section = next((member for member in union_members(kind) if _is_section(member)), None)
    if section is kind or kind is Any:
        yield Key(path, "", "", text)
    else:
        or_auto = ", or auto" if join_keys(path) in AUTOMATIC else ""
        shown = "required" if default is MISSING else _show_default(default)
        yield Key(path, f"{describe(kind)}{or_auto}", shown, text)
    if section is None:
        return
    docs, defaults = field_docs(section), _defaults(section)
    for name, inner in field_kinds(section).items():
        yield from _keys(inner, (*path, name), defaults.get(name, MISSING), docs.get(name, ""))


@functools.cache
def field_docs(section: type) -> dict[str, str]:
    """Return the docstring under each field of a class and of those it extends, on one line."""
    docs: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if base.__module__ not in ("builtins", "typing"):
            docs |= _own_field_docs(base)
    return docs


def _own_field_docs(section: type) -> dict[str, str]:
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
