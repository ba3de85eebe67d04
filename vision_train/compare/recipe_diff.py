"""Where resolved recipes differ: only the keys whose values are not the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NOT_SET = None
"""Stands for a key that a recipe does not hold, which for every key that may be absent means the same as null."""


def flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differing_keys(recipes: Sequence[Mapping[str, Any]], ignored: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Keys whose values differ, in the order in which recipes hold them.

    Args:
        recipes: Plain values, nested.
        ignored: Dotted keys to leave out.

    Returns:
        Dotted key -> its value in each recipe, None where it is not set.
    """
    flat = [flatten(recipe) for recipe in recipes]
    keys = dict.fromkeys(key for recipe in flat for key in recipe)
    # A section that is null in one recipe and a mapping in another differs by what the mapping holds.
    sections = {key for key in keys if any(other.startswith(f"{key}.") for other in keys)}
    rows = {key: [recipe.get(key, NOT_SET) for recipe in flat] for key in keys if key not in {*ignored, *sections}}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}
