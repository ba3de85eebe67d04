"""``vision-train export``: a finished run as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    written_as: Annotated[str, typer.Option("--format", help="onnx or torch-export.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="File to write (.onnx, .pt2); else called like the recipe, in this folder.")
    ] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width of the images that the program takes; else those of the recipe."),
    ] = None,
) -> None:
    """Export the best weights of a run as a program that needs neither this package nor a recipe.

    The file is run before it is left, and holds what PyTorch computes to 1e-4; a JSON file beside it says what goes in
    and what comes out.

    For example:

      vision-train export runs/relation_detr/shapes/0

      vision-train export runs/relation_detr/shapes/0 --format torch-export --out detector.pt2 --size 480 640
    """
    from vision_train.cli.console import plain_console
    from vision_train.run.export.verb import export_run

    export_run(run, written_as, out=out, size=size, console=plain_console())
