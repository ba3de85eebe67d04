"""``vision-train predict``: classify images with a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    inputs: Annotated[list[Path], typer.Argument(help="Images, folders of images, or csv files with a `path` column.")],
    out: Annotated[Path, typer.Option(help="Table to write: .jsonl or .csv.")] = Path("predictions.jsonl"),
    render: Annotated[Path | None, typer.Option(help="Folder for a picture of each prediction.")] = None,
    on_bad_image: Annotated[str | None, typer.Option(help="error or skip; else as the run's recipe says.")] = None,
) -> None:
    """Predict the class of images with the best weights of a run.

    For example:

      vision-train predict runs/quickstart/0 some/folder --out predictions.jsonl --render pictures/
    """
    from vision_train.cli.console import plain_console
    from vision_train.run.predict import predict_run

    predict_run(run, inputs, out=out, render=render, on_bad_image=on_bad_image, console=plain_console())
