"""``vision-train evaluate``: measure a finished run on one of its splits."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Views(StrEnum):
    """Views of an image, over which class probabilities are averaged."""

    FLIPS = "flips"
    FIVE_CROP = "five-crop"


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change, such as data.root.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, val, test or another split of the data; else the one that the run was measured on."),
    ] = None,
    tta: Annotated[
        Views | None,
        typer.Option("--tta", help="Test-time augmentation: average the class probabilities over views of each image."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Evaluate the best weights of a run. Nothing is written.

    For example:

      vision-train evaluate runs/quickstart/0 --split test --json

      vision-train evaluate runs/classification/vit_small/0 data.root=other_photos

      vision-train evaluate runs/classification/vit_small/0 --tta five-crop
    """
    from vision_train.cli.console import loading, plain_console
    from vision_train.files import finite
    from vision_train.progress import shown_on
    from vision_train.run.inference import check_evaluation

    views = tta.value if tta else None
    check_evaluation(run, split, overrides or [], views)
    console = plain_console(stderr=True)
    with shown_on(console):
        with loading(f"evaluate {run}"):
            from vision_train.report.formats import describe, metric_format, metric_title
            from vision_train.run.directory import open_run
            from vision_train.run.evaluate import evaluate_run

        figures = evaluate_run(run, split, overrides or [], console, views)
    if as_json:
        print(json.dumps(finite(figures)))
        return
    described = open_run(run).read_described()
    shown = {name: value for name, value in figures.items() if describe(name, described).shown}
    words = {metric_title(name, described): metric_format(name, described)(value) for name, value in shown.items()}
    width = max(map(len, words))
    for title, value in words.items():
        print(f"{title:<{width}}  {value}")
