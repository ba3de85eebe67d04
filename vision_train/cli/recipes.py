"""``vision-train recipes``: which recipes there are, what one says, and what every key means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from vision_train.recipe import Recipe
    from vision_train.recipe.keys import Key


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(help="Show this recipe (a built-in name or a YAML file); with --explain, a section or key too."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Document every key, those of a recipe with their values, or a section's.")
    ] = False,
    all_recipes: Annotated[
        bool, typer.Option("--all", help="Also list the recipes in studies/, which serve as comparisons.")
    ] = False,
) -> None:
    """List the built-in recipes, show one resolved, or explain the keys.

    For example:

      vision-train recipes

      vision-train recipes --all

      vision-train recipes classification/vit_small optim.lr=1e-4 > mine.yaml

      vision-train recipes --explain

      vision-train recipes --explain semi
    """
    from rich.console import Console

    from vision_train.recipe import load_recipe
    from vision_train.recipe.keys import explain as explained

    console = Console(highlight=False)
    if explain and name and not overrides and (keys := _keys_in(explained(), name)):
        _explain(console, keys, None)
        return
    recipe = None if name is None else load_recipe(name, overrides or [], runnable=False)
    if explain:
        _explain(console, explained(None if recipe is None else recipe.task), recipe)
    elif recipe is not None:
        _show(console, recipe)
    else:
        _list(console, all_recipes)


def _keys_in(keys: Sequence[Key], name: str) -> list[Key]:
    """Those of a section or of a key that holds others, or one key."""
    return [key for key in keys if key.name == name or key.name.startswith(f"{name}.")]


def _list(console: Console, all_recipes: bool) -> None:
    from vision_train.recipe.catalogue import builtin_recipes, find_recipe, recipes_to_start_from
    from vision_train.recipe.read import read_file

    names = builtin_recipes() if all_recipes else recipes_to_start_from()
    described = {name: read_file(find_recipe(name)).values.get("description", "") for name in names}
    width = max(map(len, described), default=0)
    if console.is_terminal:
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("Recipe", no_wrap=True)
        table.add_column("What it does", overflow="fold")
        for name, description in described.items():
            table.add_row(name, description)
        console.print(table)
        return
    for name, description in described.items():
        print(f"{name:{width}}  {description}")


def _show(console: Console, recipe: Recipe) -> None:
    from vision_train.recipe.plain import to_plain, to_yaml

    plain = to_plain(recipe)
    del plain["name"]  # saved under a name of the user's own, it is a recipe of that name
    text = to_yaml(plain)
    if console.is_terminal:
        from rich.syntax import Syntax

        console.print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    else:
        print(text, end="")


def _explain(console: Console, keys: Sequence[Key], recipe: Recipe | None) -> None:
    for key in keys:
        value = "" if recipe is None or not key.kind else _value(recipe, key)
        kind = f"({key.kind}; {_default(key)})" if key.kind else ""
        if console.is_terminal:
            from rich.padding import Padding
            from rich.text import Text

            console.print(Text.assemble((key.name, "bold"), value, "  ", (kind, "dim")))
            console.print(Padding(Text(key.text), (0, 0, 0, 4)))
        else:
            print("  ".join(part for part in (key.name + value, kind, key.text) if part))


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
