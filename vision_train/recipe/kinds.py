"""Type annotations of the sections, taken apart and put into words."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vision_train.recipe.recipe import Recipe
from vision_train.recipe.trainer_keys import TrainerKeys
from vision_train.tasks import kind_of_data, task_options, task_packages

_WORDS: dict[Any, str] = {
    Any: "anything",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}


@cache
def field_kinds(section: type) -> Mapping[str, Any]:
    """Return the annotation of each field of a class, evaluated once."""
    return get_type_hints(section)


def section_kinds(task: str | None) -> dict[str, Any]:
    """Return the annotation of each key at the top of a recipe.

    Args:
        task: Types `data` and `method`; a task that does not exist leaves both open.
    """
    kinds = dict(field_kinds(Recipe))
    kinds["task"] = Literal[tuple(task_packages())]
    kinds["trainer"] = TrainerKeys
    if task in task_packages():
        kinds["data"] = kind_of_data(task).section
        kinds["method"] = task_options(task).Method
    return kinds


def union_members(kind: Any) -> tuple[Any, ...]:
    """Return what `X | Y | None` is made of, or the annotation alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def describe(kind: Any) -> str:
    """Put an annotation into words: `tuple[float, float] | None` is `a list of 2 numbers or null`."""
    members = union_members(kind)
    if len(members) > 1:
        # A whole number is a number too; saying both says less.
        words = [describe(member) for member in members if not (member is int and float in members)]
        return " or ".join(words)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(dict.fromkeys(str(choice) for choice in arguments))
    if origin is tuple:
        return f"a list of {len(arguments)} {_plural(arguments[0])}"
    if origin is list and get_origin(arguments[0]) is Literal:
        return f"a list of {', '.join(get_args(arguments[0]))}"
    if origin is list:
        return f"a list of {_plural(arguments[0])}"
    return _WORDS.get(kind, "a mapping")


def _plural(kind: Any) -> str:
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(kind, "values")
