"""``vision-train inspect``: what a weights file holds, and how much of it a model can use."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_train.errors import UserError
from vision_train.progress import fitted

if TYPE_CHECKING:
    from vision_train.artefacts import Table
    from vision_train.checkpoints import LoadReport, Weights
    from vision_train.run.features import Compared

NAMES_SHOWN = 8
UNFOLDED = 10_000
"""Columns of a pipe: a program that reads the lines wants them whole."""


Checkpoint = Annotated[
    str,
    typer.Argument(help="A weights file, a run directory for its best weights, timm:NAME.TAG or hf-hub:OWNER/NAME."),
]
Images = Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="More images of --features.")]
Key = Annotated[str | None, typer.Option(help="Which of several networks in the file, as model.checkpoint_key.")]
Name = Annotated[str | None, typer.Option(help="Match the file to this timm model.")]
ImageSize = Annotated[int | None, typer.Option(help="Side of the model's input; else timm's for it.")]
NumClasses = Annotated[int | None, typer.Option(help="Classes of the model; else as many as the file lists.")]
Features = Annotated[
    list[Path] | None,
    typer.Option(metavar="IMAGE", help="Compare features of images with and without each assumption."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, with every tensor.")]


def inspect(
    checkpoint: Checkpoint,
    images: Images = None,
    key: Key = None,
    model: Name = None,
    image_size: ImageSize = None,
    num_classes: NumClasses = None,
    features: Features = None,
    as_json: AsJson = False,
) -> None:
    """Say what a weights file holds without running any code from it; with --model, whether it fits that model.

    Exits with 2 if `fit` would refuse the file for that model.

    For example:

      vision-train inspect deit_tiny.pth

      vision-train inspect deit_tiny.pth --model vit_tiny_patch16_224 --num-classes 10

      vision-train inspect deit_tiny.pth --features cat.jpg dog.jpg
    """
    if num_classes is not None and model is None:
        raise UserError("--num-classes describes a model; name it with --model")
    if image_size is not None and model is None and not features:
        raise UserError("--image-size describes a model; name it with --model")
    if images and not features:
        raise UserError(f"{images[0]}: one file is inspected at a time; name images behind --features")

    shown = [*(features or []), *(images or [])]
    _refuse_absent(checkpoint, shown)

    from vision_train.cli.console import loading, plain_console
    from vision_train.progress import doing, shown_on

    with shown_on(plain_console(stderr=True)):
        with loading(f"inspect {checkpoint}"):
            from vision_train.checkpoints import read_weights
            from vision_train.recipe.sections import Model
            from vision_train.run.inspection import compared_features, described
            from vision_train.tasks import describe_weights

        with doing(f"reading {checkpoint}"):
            weights = read_weights(checkpoint, key)
        with doing("looking for networks that it fits"):
            recognised = describe_weights(weights.state)
            facts = _facts(weights) | recognised | described(weights, checkpoint, key, search=not recognised)
            report = None if model is None else _match(weights, facts["classes"], model, image_size, num_classes)
        with doing("comparing features"):
            compared = compared_features(weights, checkpoint, model, image_size, shown) if shown else None
    (_print_json if as_json else _print_lines)(facts, weights, report, compared)
    if report is not None and not report.fits(Model().min_matched_share):
        raise typer.Exit(2)


def _refuse_absent(checkpoint: str, images: list[Path]) -> None:
    from vision_train.recipe.remote import is_remote

    if not is_remote(checkpoint) and not Path(checkpoint).expanduser().exists():
        raise UserError(f"{checkpoint}: does not exist; name a weights file, a folder of one or a run directory")
    for image in images:
        if not image.exists():
            raise UserError(f"--features {image}: no such image; name images that can be read")


def _print_json(facts: dict[str, Any], weights: Weights, report: LoadReport | None, compared: Compared | None) -> None:
    from vision_train.recipe.sections import Model

    content = {**facts}
    content["tensors"] = {
        name: {"shape": list(tensor.shape), "dtype": _dtype(tensor)} for name, tensor in weights.state.items()
    }
    if report is not None:
        content |= {"fits": report.fits(Model().min_matched_share), "match": _as_plain(report)}
    if compared is not None:
        table = compared.table
        content["features"] = {"columns": table.columns, "rows": table.rows, "problems": compared.problems}
    print(json.dumps(content))


def _print_lines(facts: dict[str, Any], weights: Weights, report: LoadReport | None, compared: Compared | None) -> None:
    from vision_train.recipe.sections import Model

    _print_facts(facts, weights)
    if report is not None:
        print(f"\n{report.summary()}\n")
        _print_table(report.table(), names=2)
        print(report.verdict(Model().min_matched_share))
    if compared is not None:
        print()
        for problem in compared.problems:
            print(f"These features mean little, as `fit` would refuse the weights: {problem}")
        _print_table(compared.table, names=1)
        print(compared.table.note)


def _print_facts(facts: dict[str, Any], weights: Weights) -> None:
    listed = facts["classes"]
    lines = facts | {
        "names": _beginning(list(weights.state)),
        "classes": f"{len(listed):,}: {_beginning(listed)}" if listed else "not in the file",
    }
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value:,}" if isinstance(value, int) else f"{name:<{width}}  {value}")


def _beginning(names: list[str]) -> str:
    return ", ".join([*names[:NAMES_SHOWN], *(["…"] if len(names) > NAMES_SHOWN else [])])


def _facts(weights: Weights) -> dict[str, Any]:
    from models.families import guess_family

    return {
        "file": str(weights.path),
        "format": weights.file_format,
        "taken from": weights.container or "the top level",
        "looks like": guess_family(weights.state) or "no family we know",
        "number of tensors": len(weights.state),
        "parameters": sum(tensor.numel() for tensor in weights.state.values()),
        "dtypes": ", ".join(sorted({_dtype(tensor) for tensor in weights.state.values()})),
    }


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _match(
    weights: Weights, classes: list[str] | None, name: str, image_size: int | None, num_classes: int | None
) -> LoadReport:
    import timm
    import torch

    from models.vit import adapt_published, build_model, head_names
    from vision_train.checkpoints import match_weights

    published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if image_size is None:
        image_size = published.input_size[-1] if published is not None else 224
    if num_classes is None:
        num_classes = len(classes or ()) or (published.num_classes if published is not None else 1000)
    try:
        with torch.device("meta"):
            network = build_model(name, num_classes=num_classes, image_size=image_size)
    except ValueError as error:
        raise UserError(f"--model: {error}") from error
    report, _ = match_weights(network, weights, adapt=adapt_published, heads=head_names(network))
    return report


def _as_plain(report: LoadReport) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "matched_share": report.matched_share,
        "problems": report.problems(),
        "entries": [asdict(entry) for entry in report.entries],
    }


def _print_table(table: Table, names: int) -> None:
    """Print a table with its names whole; where the terminal is too narrow for that, each row on lines of its own.

    Args:
        table: What to print.
        names: How many of its first columns say what a row is about.
    """
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table as RichTable
    from rich.text import Text

    terminal = Console()
    console = Console(width=UNFOLDED) if not terminal.is_terminal else terminal
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, value in zip(table.columns, table.rows[0], strict=True):
        drawn.add_column(column, justify="right" if isinstance(value, int) else "left", no_wrap=True)
    rows = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in table.rows]
    for row in rows:
        drawn.add_row(*map(Text, row))
    if Measurement.get(console, console.options.update(max_width=UNFOLDED), drawn).maximum <= console.width:
        console.print(drawn, highlight=False, markup=False)
        return
    for row in rows:
        print("  ".join(row[:names]))
        told = [f"{column} {cell}" for column, cell in zip(table.columns[names:], row[names:], strict=True) if cell]
        print(indent(fitted(told, console.width - 2), "  "))
