"""``vision-train data``: the commands for images with boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_train.cli.console import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vision_train.data.toy.scenes import Scene


def add_verbs(data: typer.Typer, make: typer.Typer) -> None:
    """Add the commands to ``data`` and ``data make``."""
    make.command()(shapes)
    make.command("digit_scenes")(digit_scenes)


NewFolder = Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")]


def shapes(folder: NewFolder) -> None:
    """Write pictures of circles, squares and triangles that overlap, with their boxes as COCO json.

    Example: vision-train data make shapes shapes
    """
    from vision_train.data.toy.shapes import shapes

    _write(shapes(), folder)


def digit_scenes(folder: NewFolder) -> None:
    """Write scanned digits that overlap on one canvas, with clutter, and their boxes as COCO json.

    Example: vision-train data make digit_scenes scenes
    """
    from vision_train.data.toy.digit_scenes import digit_scenes

    _write(digit_scenes(), folder)


def _write(scenes: Sequence[Scene], folder: Path) -> None:
    from vision_train.data.toy.scenes import write_coco

    counts = write_coco(scenes, folder)
    boxes = sum(len(scene.boxes) for scene in scenes)
    typer.echo(f"Wrote {sum(counts.values())} images to {folder} ({counted(counts)}) with {boxes:,} boxes.")
    typer.echo(f"Next: vision-train fit relation_detr/shapes data.source=boxes data.root={folder}")
