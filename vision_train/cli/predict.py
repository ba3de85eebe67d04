"""``vision-train predict``: classify images or bags with a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Images, folders of images, or csv files with a `path` column. For a run of bags, files or folders of "
            "features."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Table to write: .jsonl or .csv.")] = Path("predictions.jsonl"),
    render: Annotated[
        Path | None,
        typer.Option(help="Folder for a picture of each prediction; of a bag, of where the network looks in it."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Bags: folder of the images that they were made of, for the pictures of --render; smaller copies do "
            "where the bags say how large the slide is."
        ),
    ] = None,
    on_bad_image: Annotated[str | None, typer.Option(help="error or skip; else as the run's recipe says.")] = None,
    on_bad_bag: Annotated[str | None, typer.Option(help="The same for bags.")] = None,
) -> None:
    """Predict the class of images, or of bags, with the best weights of a run.

    For example:

      vision-train predict runs/quickstart/0 some/folder --out predictions.jsonl --render pictures/

      vision-train predict runs/acmil/slides/0 features/ --out bags.csv --render heatmaps/

    Of bags, --render writes ID.png, the attention over the tiles of a bag, ID-branches.png, that of each branch,
    ID-top.png, the tiles with most attention where their pixels can be had, and attention.csv for all of them.
    """
    from vision_train.cli.console import plain_console
    from vision_train.run.predict import predict_run

    predict_run(
        run,
        inputs,
        out=out,
        render=render,
        images=images,
        on_bad_image=on_bad_image,
        on_bad_bag=on_bad_bag,
        console=plain_console(),
    )
