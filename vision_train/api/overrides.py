"""Keys of a recipe with Python values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

from vision_train.errors import UserError

Overrides = Mapping[str, Any]
"""Keys of a recipe, with dots between their parts or mappings inside one another, and plain values or paths."""


def as_typed(overrides: Overrides | None) -> list[str]:
    """Write keys and values as they would be typed on the command line, ``optim.lr=0.0001``.

    Raises:
        UserError: These are no keys and values, or a value is none that a recipe can hold.
    """
    from vision_train.recipe.plain import escaped

    if not isinstance(overrides, Mapping | None):
        raise UserError(f"{overrides!r}: are no keys of a recipe; give a mapping such as {{'optim.lr': 1e-4}}")
    typed = []
    for key, value in (overrides or {}).items():
        try:
            text = json.dumps(escaped(_plain(value)), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{key}={value!r}: is nothing that a recipe can hold; give text, numbers, True, False, None, a path, "
                "or lists and mappings of these"
            ) from error
        typed.append(f"{key}={text}")
    return typed


def _plain(value: Any) -> Any:
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if getattr(value, "ndim", None) == 0:  # a number of NumPy or torch
        return value.item()
    return value
