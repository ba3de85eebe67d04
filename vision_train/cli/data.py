"""``vision-train data``: make small data sets to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(no_args_is_help=True, help="Make small data sets in the formats that recipes read.")
make = typer.Typer(no_args_is_help=True, help="Write a small real data set to a folder.")
data.add_typer(make, name="make")


@make.command()
def digits(folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]) -> None:
    """Write scikit-learn's 1,797 scanned digits as PNG files in class folders.

    Example: vision-train data make digits digits
    """
    from vision_train.data.toy.digits import make_digits

    counts = make_digits(folder)
    written = ", ".join(f"{count} {split}" for split, count in counts.items())
    typer.echo(f"Wrote {sum(counts.values())} images to {folder} ({written}).")
    typer.echo(f"Next: vision-train fit quickstart data.source=images data.root={folder}")
