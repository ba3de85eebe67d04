"""A recipe as plain values and as YAML text that reads back to the same recipe."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from vision_train.files import escape_name, write_text
from vision_train.recipe.recipe import Recipe
from vision_train.recipe.yaml_text import with_exponents


@with_exponents
class _Dumper(yaml.SafeDumper):
    """Block mappings, lists on one line, and text that the reader would take for a number in quotes."""


_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)
)


def to_plain(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as dicts, lists and scalars, in the order of its sections."""
    plain = _plain(asdict(recipe))
    assert isinstance(plain, dict)
    return plain


def to_yaml(plain: dict[str, Any]) -> str:
    """Return plain values as YAML text that a recipe file can hold."""
    return yaml.dump(escaped(plain), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe, resolved and with its name, so that ``load_recipe(path)`` returns an equal one."""
    write_text(path, to_yaml(to_plain(recipe)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def escaped(value: Any) -> Any:
    """Mark every `${` in plain values as text, since nothing is left to interpolate, and escape bytes of no UTF-8."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if isinstance(value, str):
        # A backslash before it stands for itself only when doubled.
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", escape_name(value))
    return value
