"""``vision-train data``: the commands for images with expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_train.cli.console import counted


def add_verbs(data: typer.Typer, make: typer.Typer) -> None:
    """Add the commands to ``data make``; ``data`` gets none."""
    make.command()(referring)


def referring(folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]) -> None:
    """Write drawn scenes and expressions that mean one thing in them, in REFER's format.

    Example: vision-train data make referring referring
    """
    from vision_train.data.toy.refer_folder import write_refer
    from vision_train.data.toy.referring import referring as drawn

    described = drawn()
    counts = write_refer(described, folder)
    typer.echo(f"Wrote {len(described):,} images to {folder} with {sum(counts.values()):,} expressions.")
    typer.echo(f"Expressions: {counted(counts)}. Train on them with data.source=phrases data.root={folder}")
