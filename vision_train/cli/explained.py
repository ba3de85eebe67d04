"""What ``vision-train recipes --explain`` prints: keys, what they mean, and which recipes set them to what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from vision_train.recipe import Recipe
    from vision_train.recipe.keys import Key

MOST_NAMED = 3
"""Recipes that are named beside a value in the documentation of several keys; of more their number."""


def explain_keys(console: Console, name: str | None, overrides: Sequence[str], *, all_recipes: bool) -> None:
    """Document keys.

    Args:
        console: Where to.
        name: A section or key, or a recipe, whose keys are shown with their values; None for all keys there are.
        overrides: Keys of that recipe to change.
        all_recipes: Count the arms of studies among the recipes that set a key.

    Raises:
        UserError: There is no such key, section or recipe.
    """
    from vision_train.errors import UserError
    from vision_train.recipe import load_recipe
    from vision_train.recipe.catalogue import existing_recipe
    from vision_train.recipe.keys import explain, nearest_keys

    known = explain()
    if name and not overrides and (keys := _keys_in(known, name)):
        _explain_settings(console, keys, all_recipes)
    elif name and existing_recipe(name) is None:
        raise UserError(
            f"{name}: no key, section or recipe of this name{nearest_keys(name, known)}; "
            "`vision-train recipes --explain` lists all keys"
        )
    elif name:
        recipe = load_recipe(name, overrides, runnable=False)
        for key in explain(recipe.task):
            _print_key(console, key, _value(recipe, key) if key.kind else "")
    else:
        for key in known:
            _print_key(console, key)


def _keys_in(keys: Sequence[Key], name: str) -> list[Key]:
    """Those of a section or of a key that holds others, or one key."""
    return [key for key in keys if key.name == name or key.name.startswith(f"{name}.")]


def _explain_settings(console: Console, keys: Sequence[Key], all_recipes: bool) -> None:
    """Keys, and below each the values that recipes give it; one key alone names all of these recipes."""
    from vision_train.recipe.overview import entries, values_by_recipe

    listed = entries(all_recipes=all_recipes)
    alone = len({key.name for key in keys}) == 1
    shown: set[str] = set()
    for number, key in enumerate(keys):
        _print_key(console, key)
        # A key that several tasks have stands there once for each of them.
        following = keys[number + 1].name if number + 1 < len(keys) else ""
        if following == key.name or key.name in shown or key.name == "smoke":
            continue
        shown.add(key.name)
        by_value: dict[str, list[str]] = {}
        for name, value in values_by_recipe(listed, key.path).items():
            if not isinstance(value, Mapping) or key.kind:
                by_value.setdefault(json.dumps(value, ensure_ascii=False), []).append(name)
        _print_settings(console, by_value, alone)


def _print_key(console: Console, key: Key, value: str = "") -> None:
    kind = f"({key.kind}; {_default(key)})" if key.kind else ""
    if console.is_terminal:
        from rich.padding import Padding
        from rich.text import Text

        console.print(Text.assemble((key.name, "bold"), value, "  ", (kind, "dim")))
        console.print(Padding(Text(key.text), (0, 0, 0, 4)))
    else:
        print("  ".join(part for part in (key.name + value, kind, key.text) if part))


def _print_settings(console: Console, by_value: Mapping[str, Sequence[str]], alone: bool) -> None:
    """Values, those of most recipes first, with the recipes that set them."""
    ordered = sorted(by_value.items(), key=lambda item: -len(item[1]))
    for value, names in ordered:
        few = alone or len(names) <= MOST_NAMED
        who = ", ".join(names) if few else f"{len(names)} recipes, such as {names[0]}"
        if console.is_terminal:
            from rich.padding import Padding
            from rich.text import Text

            console.print(Padding(Text.assemble(f"= {value}", "  ", (who, "dim")), (0, 0, 0, 8)))
        else:
            print(f"    = {value}  {who}")


def _default(key: Key) -> str:
    return key.default if key.default == "required" else f"default {key.default}"


def _value(recipe: Recipe, key: Key) -> str:
    """Return ` = value`, or nothing for a key that the resolved recipe does not hold."""
    from vision_train.recipe.plain import to_plain

    inside: Any = to_plain(recipe)
    for part in key.path:
        if not isinstance(inside, dict) or part not in inside:
            return ""
        inside = inside[part]
    return f" = {json.dumps(inside, ensure_ascii=False)}"
