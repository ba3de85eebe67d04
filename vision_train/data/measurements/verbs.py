"""``vision-train data make``: the command for a small data set of images with numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_train.cli.console import busy, say_written


def add_verbs(data: typer.Typer, make: typer.Typer) -> None:
    """Add the command to ``data make``."""
    make.command()(discs)


def discs(folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]) -> None:
    """Write 900 drawn discs as PNG files, with their diameters in diameters.csv.

    Example: vision-train data make discs discs
    """
    with busy(f"making discs in {folder}"):
        from vision_train.data.toy.discs import TABLE_NAME, make_discs

        counts = make_discs(folder)
    say_written(counts, "images", folder, f"fit regression/discs data.source=table data.labels={folder / TABLE_NAME}")
