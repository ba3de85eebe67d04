"""``vision-train data``: the commands for images with expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_train.cli.console import busy, counted, plain_console
from vision_train.errors import UserError
from vision_train.wording import count_of


def add_verbs(data: typer.Typer, make: typer.Typer) -> None:
    """Add the commands to ``data`` and ``data make``."""
    data.command()(oracle)
    make.command()(referring)


def oracle(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run that gave boxes to its pool.")]) -> None:
    """Say how right the boxes are that a run gave the expressions of its pool, by the true ones in its files.

    No training reads those. It is for studies of methods, whose pool has boxes that are known (data.unlabelled=rest).

    Example: vision-train data oracle runs/actress-referring/1
    """
    from vision_train.recipe import load_recipe
    from vision_train.run.directory import open_run
    from vision_train.run.places import check_root

    directory = open_run(run)
    files = directory.pseudo_labels()
    if not files:
        raise UserError(f"{run}: gave no boxes to a pool between phases; name a run of self_training or active_rounds")
    recipe = load_recipe(directory.recipe, runnable=False)
    check_root(recipe)
    with busy(f"data oracle {run}"):
        from vision_train.data.phrases.build import all_samples
        from vision_train.data.phrases.oracle import judge, table

        truths = {sample.id: sample.truth.box for sample in all_samples(recipe)}
    console = plain_console()
    for file in files:
        console.print(table(file.parent.name, judge(file, truths)))


def referring(folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]) -> None:
    """Write drawn scenes and expressions that mean one thing in them, in REFER's format.

    Example: vision-train data make referring referring
    """
    with busy(f"making referring in {folder}"):
        from vision_train.data.toy.refer_folder import write_refer
        from vision_train.data.toy.referring import referring as drawn

        described = drawn()
        counts = write_refer(described, folder)
    expressions = count_of(sum(counts.values()), "expressions")
    typer.echo(f"Wrote {count_of(len(described), 'images')} to {folder} with {expressions}.")
    typer.echo(f"Expressions: {counted(counts)}. Train on them with data.source=phrases data.root={folder}")
