"""``vision-train inspect``: what a weights file holds, and how much of it a model can use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_train.errors import UserError

if TYPE_CHECKING:
    from vision_train.artefacts import Table
    from vision_train.checkpoints import LoadReport, Weights

NAMES_SHOWN = 8
UNFOLDED = 10_000
"""Columns of a pipe: a program that reads the lines wants them whole."""


def inspect(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A weights file, a run directory for its best weights, timm:NAME.TAG or hf-hub:OWNER/NAME."
        ),
    ],
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="More images of --features.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Match the file to this timm model.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the model's input; else timm's for it.")] = None,
    num_classes: Annotated[
        int | None, typer.Option(help="Classes of the model; else as many as the file lists.")
    ] = None,
    features: Annotated[
        list[Path] | None,
        typer.Option(metavar="IMAGE", help="Compare features of images with and without each assumption."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every tensor.")] = False,
) -> None:
    """Say what a weights file holds without running any code from it; with --model, whether it fits that model.

    Exits with 2 if the file fills less of the model than `fit` asks for by default.

    For example:

      vision-train inspect deit_tiny.pth

      vision-train inspect deit_tiny.pth --model vit_tiny_patch16_224 --num-classes 10

      vision-train inspect deit_tiny.pth --features cat.jpg dog.jpg
    """
    if model is None and (image_size is not None or num_classes is not None):
        raise UserError("--image-size and --num-classes describe a model; name it with --model")
    if images and not features:
        raise UserError(f"{images[0]}: one file is inspected at a time; name images behind --features")

    from vision_train.checkpoints import read_weights
    from vision_train.recipe.sections import Model
    from vision_train.run.inspection import compared_features, described

    weights = read_weights(checkpoint)
    facts = _facts(weights) | described(weights, checkpoint)
    report = None if model is None else _match(weights, model, image_size, num_classes)
    fits = report is None or report.matched_share >= Model().min_matched_share
    shown = [*(features or []), *(images or [])]
    compared = compared_features(weights, checkpoint, model, image_size, shown) if shown else None
    if as_json:
        tensors = {
            name: {"shape": list(tensor.shape), "dtype": _dtype(tensor)} for name, tensor in weights.state.items()
        }
        match = {} if report is None else {"fits": fits, "match": _as_plain(report)}
        table = {} if compared is None else {"features": {"columns": compared.columns, "rows": compared.rows}}
        print(json.dumps(facts | {"tensors": tensors} | match | table))
    else:
        _print_facts(facts, weights)
        if report is not None:
            print(f"\n{report.summary()}\n")
            _print_table(report.table())
            print(report.verdict(Model().min_matched_share))
        if compared is not None:
            print()
            _print_table(compared)
            print(compared.note)
    if not fits:
        raise typer.Exit(2)


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
    from vision_train.tasks import describe_weights

    return {
        "file": str(weights.path),
        "format": weights.file_format,
        "taken from": weights.container or "the top level",
        "looks like": guess_family(weights.state) or "no family we know",
        "number of tensors": len(weights.state),
        "parameters": sum(tensor.numel() for tensor in weights.state.values()),
        "dtypes": ", ".join(sorted({_dtype(tensor) for tensor in weights.state.values()})),
        **describe_weights(weights.state),
    }


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _match(weights: Weights, name: str, image_size: int | None, num_classes: int | None) -> LoadReport:
    import timm
    import torch

    from models.vit import adapt_published, build_model, head_names
    from vision_train.checkpoints import match_weights

    published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if image_size is None:
        image_size = published.input_size[-1] if published is not None else 224
    if num_classes is None:
        listed = len(weights.classes) if weights.classes else 0
        num_classes = listed or (published.num_classes if published is not None else 1000)
    try:
        with torch.device("meta"):
            network = build_model(name, num_classes=num_classes, image_size=image_size)
    except ValueError as error:
        raise UserError(f"--model: {error}") from error
    report, _ = match_weights(network, weights, adapt=adapt_published, heads=head_names(network))
    return report


def _as_plain(report: LoadReport) -> dict[str, Any]:
    from dataclasses import asdict

    return {"matched_share": report.matched_share, "entries": [asdict(entry) for entry in report.entries]}


def _print_table(table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    if not console.is_terminal:
        console = Console(width=UNFOLDED)
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, value in zip(table.columns, table.rows[0], strict=True):
        drawn.add_column(column, justify="right" if isinstance(value, int) else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    console.print(drawn, highlight=False, markup=False)
