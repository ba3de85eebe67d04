"""``vision-train new``: four questions, and a recipe of one's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_train.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from vision_train.recipe.overview import Entry
    from vision_train.recipe.starting import Choices


def new(
    file: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml"),
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Further keys that the recipe is to set.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What is to be learned, such as classification.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data (data.root).")] = None,
    labels: Annotated[Path | None, typer.Option(help="File of the labels, where they lie apart (data.labels).")] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="A pool without labels to learn from as well (data.unlabelled).")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="The built-in recipe to start from; else the suggested one.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights to start from: a file, a run, `timm`; else random ones.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the options and defaults.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    r"""Ask what you have and want, look at your data, and write a short recipe.

    For example:

      vision-train new

      vision-train new photos.yaml --task classification --data photos --yes

      vision-train new ages.yaml data.targets=\[age] --task regression --labels ages.csv --yes

      vision-train new boxes.yaml --task detection --data boxes --unlabelled pool --checkpoint detector.pth --yes
    """
    from vision_train.cli.console import plain_console
    from vision_train.files import write_text
    from vision_train.progress import doing, shown_on
    from vision_train.recipe.overview import entries
    from vision_train.recipe.starting import composed, starts_random

    _check_file(file, force=force)
    if not yes and not _at_a_terminal():
        raise UserError(
            "new asks questions, and there is no terminal to answer at; give --yes with --task and --data, and what "
            "else `vision-train new --help` names"
        )
    given = _Given(task, data, labels, unlabelled, recipe, checkpoint, tuple(overrides or ()))
    console = plain_console()
    with shown_on(console):
        with doing("reading the built-in recipes", at_once=True):
            listed = entries()
        if yes:
            choices, found = _chosen(given, listed, console)
        else:
            choices, found = _asked(given, listed, console)
    write_text(file, composed(choices, str(file), found))
    console.print(f"wrote {file}; next: vision-train fit {file} --dry-run")
    if starts_random(choices):
        console.print(
            "It starts from random weights, which take far more images to learn. To start from others, set "
            "model.checkpoint in it: a file, a run, or `timm`"
        )


@dataclass(frozen=True)
class _Given:
    """The options of the command line."""

    task: str | None
    data: Path | None
    labels: Path | None
    unlabelled: Path | None
    recipe: str | None
    checkpoint: str | None
    overrides: tuple[str, ...]


def _check_file(file: Path, *, force: bool) -> None:
    from vision_train.files import check_writable

    if "=" in file.name and file.suffix not in (".yaml", ".yml"):
        raise UserError(f"{file}: is a key; name the recipe to write before it: vision-train new recipe.yaml {file}")
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(f"{file}: a recipe is a YAML file; call it {file.name}.yaml")
    if file.is_dir():
        raise UserError(f"{file}: is a folder; name a file for the recipe")
    if file.exists() and not force:
        raise UserError(f"{file}: is there already; name another file, or give --force to write over it")
    if not file.parent.is_dir():
        raise UserError(f"{file.parent}: no such folder; make it, or name another one")
    check_writable(file.parent, "FILE")


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _chosen(given: _Given, listed: Sequence[Entry], console: Console) -> tuple[Choices, list[str]]:
    """What the options say, with defaults for the rest."""
    from vision_train.recipe.starting import chosen_task, offered_tasks, takes_pool

    if given.task is None:
        raise UserError(f"--yes asks nothing, so say what is to be learned: --task {'|'.join(offered_tasks(listed))}")
    if given.data is None and given.labels is None:
        raise UserError("--yes asks nothing, so say where your data are: --data FOLDER")
    task = chosen_task(listed, given.task)
    if given.unlabelled is not None and not takes_pool(task):
        raise UserError(f"--unlabelled {given.unlabelled}: {task} learns from no pool beside its data; leave it out")
    base = _base(listed, task, given.recipe, pool=given.unlabelled is not None)
    choices = _choices(given, base)
    found = _look(choices, console)
    return choices, [*found, *_pool_there(given.unlabelled)]


def _asked(given: _Given, listed: Sequence[Entry], console: Console) -> tuple[Choices, list[str]]:
    """The answers to the questions that no option answers."""
    from vision_train.recipe.starting import candidates, chosen_task, offered_tasks, takes_pool

    tasks = offered_tasks(listed)
    if given.task is None:
        task = _pick(console, "1. What do you have, and what do you want?", tasks)
    else:
        task = chosen_task(listed, given.task)
    base = _base(listed, task, given.recipe, pool=False)
    given, found = _place(given, base, console)
    pool = given.unlabelled
    if pool is None and takes_pool(task):
        answer = _ask("3. A folder or list of more, without labels? Enter for none", "")
        pool = Path(answer) if answer else None
    found += _pool_there(pool)
    name = given.recipe
    if name is None:
        offered = {entry.name: entry.description for entry in candidates(listed, task, pool=pool is not None)}
        name = (
            _pick(console, "4. Which recipe is it to start from?", offered) if len(offered) > 1 else next(iter(offered))
        )
    checkpoint = given.checkpoint
    if checkpoint is None:
        checkpoint = (
            _ask("   Which weights? A file, a run, `timm` for those of timm; Enter for random ones", "") or None
        )
    given = replace(given, unlabelled=pool, checkpoint=checkpoint)
    return _choices(given, _base(listed, task, name, pool=pool is not None)), found


def _place(given: _Given, base: str, console: Console) -> tuple[_Given, list[str]]:
    """Where the data are; asked again until they can be read. A file of labels is added to a folder named before."""
    asked = given
    if given.data is None and given.labels is None:
        given = _told(given, asked, _ask("2. Where are they? A folder, or a file that lists them", None))
    while True:
        try:
            return given, _look(_choices(given, base), console)
        except UserError as error:
            console.print(f"   {error}")
        answer = _ask("   Another folder, a file with the labels of these, or KEY=VALUE", None)
        given = _told(given, asked, answer)


def _told(given: _Given, asked: _Given, answer: str) -> _Given:
    """With the folder, file of labels or key that somebody typed.

    Another folder has other labels. Another key takes the place of one that was typed before, which may be wrong.
    """
    path = Path(answer).expanduser()
    if "=" in answer and not path.exists():
        return replace(given, overrides=(*asked.overrides, answer))
    return replace(given, labels=path) if path.is_file() else replace(given, data=path, labels=None)


def _base(listed: Sequence[Entry], task: str, recipe: str | None, *, pool: bool) -> str:
    """The built-in recipe to start from.

    Raises:
        UserError: There is no such recipe for data of one's own and this task.
    """
    from vision_train.recipe.catalogue import nearest_names
    from vision_train.recipe.starting import candidates

    offered = [entry.name for entry in candidates(listed, task, pool=pool)]
    if recipe is None:
        return offered[0]
    if recipe not in offered:
        raise UserError(
            f"--recipe {recipe}: is none for {task}{' with a pool' if pool else ''}{nearest_names(recipe, offered)}; "
            f"choose one of {', '.join(offered)}"
        )
    return recipe


def _choices(given: _Given, base: str) -> Choices:
    from vision_train.recipe.starting import Choices

    root, labels, pool = (None if path is None else str(path) for path in (given.data, given.labels, given.unlabelled))
    return Choices(base, root, labels, pool, given.checkpoint, given.overrides)


def _look(choices: Choices, console: Console) -> list[str]:
    """Say what the data are.

    Raises:
        UserError: They are not there, or cannot be trained on.
    """
    from vision_train.progress import doing
    from vision_train.recipe import load_recipe
    from vision_train.recipe.starting import overrides_of
    from vision_train.run.places import check_places

    recipe = load_recipe(choices.recipe, overrides_of(choices), runnable=False)
    check_places(recipe)
    with doing(f"looking at the {recipe.kind.noun}"):
        found = [line for line in recipe.kind.looked(recipe) if line]
    for line in found:
        console.print(f"   found {line}")
    return found


def _pool_there(pool: Path | None) -> list[str]:
    if pool is None:
        return []
    if not pool.exists():
        raise UserError(f"--unlabelled {pool}: no such folder or file; say where the pool is")
    return [f"a pool without labels: {pool}"]


def _pick(console: Console, question: str, offered: dict[str, str]) -> str:
    """A name of those that are offered, chosen by its number or itself."""
    console.print(question)
    width = max(map(len, offered))
    for number, (name, text) in enumerate(offered.items(), start=1):
        line = f"{number:2} {name:{width}}  {text}"
        console.print(line if len(line) <= console.width else f"{line[: console.width - 1]}…")
    names = [*offered]
    numbers = {str(number): name for number, name in enumerate(names, start=1)}
    while True:
        answer = _ask("   Number", "1")
        if answer in numbers or answer in offered:
            return numbers.get(answer, answer)
        console.print(f"   {answer}: choose a number from 1 to {len(names)}")


def _ask(question: str, default: str | None) -> str:
    """An answer; Ctrl-C and the end of what is typed interrupt, as everywhere."""
    try:
        answer: str = typer.prompt(question, default=default, show_default=bool(default))
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return answer.strip()
