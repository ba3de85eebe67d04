"""``vision-train recipes``: which recipes there are, what one says, and what every key means."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from vision_train.recipe.overview import Entry


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|WORD]", help="A recipe to show (a built-in name or a YAML file), or a word to search for."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE|WORD]...", help="Recipe keys to change; or more words.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Document every key, those of a recipe with their values, or a section's.")
    ] = False,
    all_recipes: Annotated[
        bool, typer.Option("--all", help="Also list the recipes in studies/, which serve as comparisons.")
    ] = False,
) -> None:
    """List the built-in recipes by what you have and want, search them, show one resolved, or explain the keys.

    For example:

      vision-train recipes

      vision-train recipes few boxes

      vision-train recipes optim.layer_decay

      vision-train recipes classification/vit_small optim.lr=1e-4 > mine.yaml

      vision-train recipes --explain semi

      vision-train recipes --explain optim.lr
    """
    from rich.console import Console

    from vision_train.recipe.catalogue import existing_recipe

    console = Console(highlight=False)
    words = [word for word in (name, *(overrides or ())) if word is not None]
    if explain:
        from vision_train.cli.explained import explain_keys

        explain_keys(console, name, overrides or [], all_recipes=all_recipes)
    elif name is not None and (existing_recipe(name) is not None or any("=" in word for word in words)):
        _show(console, name, overrides or [])
    else:
        _list(console, words, all_recipes)


def _list(console: Console, words: Sequence[str], all_recipes: bool) -> None:
    from vision_train.recipe.overview import entries, found

    listed = entries(all_recipes=all_recipes)
    if words:
        listed = found(listed, words)
    for number, (title, group) in enumerate(groupby(listed, key=lambda entry: entry.group)):
        if number:
            console.print()
        _list_group(console, title, [*group])
    if console.is_terminal and not words:
        console.print()
        console.print("One of them: vision-train recipes NAME. With a word: vision-train recipes WORD.", style="dim")
        console.print("A key: vision-train recipes --explain KEY. A recipe of your own: vision-train new.", style="dim")


def _list_group(console: Console, title: str, group: Sequence[Entry]) -> None:
    """A recipe on each line: cut where a terminal ends, whole in a pipe."""
    from rich.text import Text

    width = max(len(entry.name) for entry in group)
    lines = [f"  {entry.name:{width}}  {entry.description}" for entry in group]
    if not console.is_terminal:
        print("\n".join([title, *lines]))
        return
    console.print(Text(title, "bold"), no_wrap=True, overflow="ellipsis")
    for line in lines:
        console.print(Text(line), no_wrap=True, overflow="ellipsis")


def _show(console: Console, name: str, overrides: Sequence[str]) -> None:
    from vision_train.recipe import load_recipe
    from vision_train.recipe.catalogue import find_recipe
    from vision_train.recipe.comments import commented
    from vision_train.recipe.load import merge_files
    from vision_train.recipe.plain import to_plain, to_yaml

    plain = to_plain(load_recipe(name, overrides, runnable=False))
    del plain["name"]  # saved under a name of the user's own, it is a recipe of that name
    layered, sources = merge_files(find_recipe(name), overrides)
    text = commented(to_yaml(plain), layered, sources[:-1])
    if console.is_terminal:
        from rich.syntax import Syntax

        console.print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    else:
        print(text, end="")
