"""``vision-train fit``: train what a recipe says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_train.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def fit(
    recipe: Annotated[str | None, typer.Argument(help="A built-in recipe's name or a YAML file.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change.")
    ] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where to put the run; else runs/<recipe>/<n>.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with a run that was cut short.")] = None,
    auto_resume: Annotated[
        bool,
        typer.Option(
            "--auto-resume",
            help="With --run-dir: go on with the run there if this command began it, and leave a finished one alone; "
            "for jobs that are started again, as by SLURM.",
        ),
    ] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="With --resume: go on though this key has changed. Can be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, take a few steps, say what to expect.")
    ] = False,
) -> None:
    """Train a recipe and test it.

    For example:

      vision-train fit quickstart

      vision-train fit classification/vit_small data.root=photos model.checkpoint=deit_small.pth

      vision-train fit quickstart trainer.devices=2 trainer.strategy=ddp trainer.accelerator=cpu

      vision-train fit --resume runs/quickstart/0

      vision-train fit mine.yaml --run-dir runs/job --auto-resume
    """
    if resume is not None and (recipe or overrides or run_dir or dry_run):
        raise UserError("--resume repeats the run as its recipe says and takes no recipe, keys or other options")
    if accept and resume is None:
        raise UserError("--accept says what may have changed since a run was cut short; it goes with --resume RUN")
    if auto_resume and (run_dir is None or dry_run):
        raise UserError("--auto-resume goes on with the run in one place; name it with --run-dir, without --dry-run")
    if recipe is None and resume is None:
        raise UserError("name a recipe, or a run with --resume; `vision-train recipes` lists the recipes")

    from vision_train.cli.console import plain_console
    from vision_train.progress import shown_on

    console = plain_console()
    with shown_on(console):
        if auto_resume and run_dir is not None and (found := _found_in(run_dir)) != "nothing":
            if found == "finished":
                console.print(f"{run_dir}: is finished, and left as it is")
            else:
                _resume(run_dir, accept or (), console)
        elif resume is not None:
            _resume(resume, accept or (), console)
        else:
            assert recipe is not None
            _start(recipe, overrides or [], run_dir, dry_run, console)


def _found_in(run_dir: Path) -> str:
    from vision_train.run.auto_resume import settle_place

    return settle_place(run_dir, sys.argv[1:])


def _resume(run: Path, accept: Sequence[str], console: Console) -> None:
    from vision_train.cli.console import loading
    from vision_train.run.directory import open_unfinished

    open_unfinished(run)
    with loading(f"fit --resume {run}"):
        from vision_train.run.fit import resume

    resume(run, console=console, accept=accept)


def _start(name: str, overrides: Sequence[str], run_dir: Path | None, dry_run: bool, console: Console) -> None:
    from vision_train.cli.console import loading
    from vision_train.recipe import load_recipe
    from vision_train.run.places import check_fit

    recipe = load_recipe(name, overrides)
    check_fit(recipe, run_dir)
    with loading(f"fit {recipe.name}"):
        from vision_train.run.dry_run import dry_run as try_out
        from vision_train.run.fit import fit

    if dry_run:
        console.print(try_out(recipe))
    else:
        fit(recipe, run_dir=run_dir, command=sys.argv[1:], console=console)
