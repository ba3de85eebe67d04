"""``vision-train predict``: predict with a finished run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def predict(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... [KEY=VALUE]...",
            help="Files or folders: images, csv files with a `path` column, text files of a path a line, or what else "
            "the run was trained on; and recipe keys to change, such as data.on_bad=skip.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .jsonl or .csv, or .json where the data have a format for results. Else "
            "predictions.jsonl; one image, and --text, get an answer that is printed, and written only to a file that "
            "is named."
        ),
    ] = None,
    render: Annotated[Path | None, typer.Option(help="Folder for pictures of each prediction.")] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the images that the samples were made of, called like them, for the pictures of --render; "
            "smaller copies do where the samples say how large the images are."
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="What is looked for in each image, for runs on expressions; may be given several times."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each prediction on a line, and nothing else.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Predict one share of the images, by their paths, into a file of its own beside a manifest. A whole "
            "shard is left alone, one that was cut short is begun anew.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that exist.")] = False,
) -> None:
    """Predict with the best weights of a run.

    For example:

      vision-train predict runs/quickstart/0 photo.jpg

      vision-train predict runs/quickstart/0 some/folder --out predictions.jsonl --render pictures/

      vision-train predict runs/quickstart/0 some/folder data.on_bad=skip

      vision-train predict RUN images.txt --out predictions.jsonl --shard 3/1000

      vision-train predict RUN photo.jpg --text "the red cup left of the plate" --render pictures/
    """
    from vision_train.cli.arguments import divide_arguments
    from vision_train.cli.console import loading, plain_console
    from vision_train.progress import shown_on
    from vision_train.run.inference import check_prediction
    from vision_train.run.shards import Shard

    inputs, overrides = divide_arguments(arguments)
    options: dict[str, Any] = {"out": out, "render": render, "images": images, "texts": text or (), "force": force}
    options["shard"] = None if shard is None else Shard.read(shard)
    check_prediction(run, overrides, **options)
    console = plain_console(stderr=as_json)
    with shown_on(console):
        with loading(f"predict {run}"):
            from vision_train.run.predict import predict_run

        paths = [Path(entry) for entry in inputs]
        lines = sys.stdout if as_json else None
        predict_run(run, paths, overrides=overrides, console=console, lines=lines, **options)
