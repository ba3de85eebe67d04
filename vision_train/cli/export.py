"""``vision-train export``: a finished run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    written_as: Annotated[
        str,
        typer.Option(
            "--format",
            help="onnx or torch-export: a program. safetensors: the weights. timm or hf: a folder that timm or "
            "transformers loads.",
        ),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write (.onnx, .pt2), or folder (safetensors, timm, hf); else called like the recipe, in this "
            "folder."
        ),
    ] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width of the images that it takes; else those of the recipe."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there already.")] = False,
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Send it to this repository of the Hugging Face hub as well."),
    ] = None,
) -> None:
    """Export the best weights of a run for programs that have neither this package nor a recipe.

    What was written is run before it is left, on validation images of the run where they are there, and computes what
    PyTorch does to 1e-4. Beside it lie a JSON file, which says how inputs are prepared, and a model card.

    For example:

      vision-train export runs/relation_detr/shapes/0

      vision-train export runs/quickstart/0 --format timm --out digits --push me/digits

      vision-train export runs/relation_detr/shapes/0 --format torch-export --out detector.pt2 --size 480 640
    """
    from vision_train.cli.console import loading, plain_console
    from vision_train.progress import shown_on
    from vision_train.run.export.asked import check_export

    options: dict[str, Any] = {"out": out, "size": size, "force": force, "repository": push}
    check_export(run, written_as, **options)
    console = plain_console()
    with shown_on(console):
        with loading(f"export {run}"):
            from vision_train.run.export.verb import export_run

        export_run(run, written_as, console=console, **options)
