"""Classifying loose images with a finished run."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console

from vision_train.checkpoints import load_weights
from vision_train.contract import as_module
from vision_train.data.decode import IMAGE_ENDINGS, decode, is_image_file
from vision_train.data.images import loose_images
from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.files import write_bytes
from vision_train.recipe import Recipe
from vision_train.report.predictions import render_prediction
from vision_train.run.directory import RunDirectory
from vision_train.run.log import logging_to
from vision_train.run.phase import build_task
from vision_train.run.predictions import Prediction, as_file_name, check_outputs, write_predictions
from vision_train.run.trainer import build_trainer

TOP = 5
"""Classes named for each image."""


def predict_images(
    run: Path, recipe: Recipe, inputs: Sequence[Path], *, out: Path, render: Path | None, console: Console
) -> None:
    """Predict and write a table, and pictures if asked for.

    Args:
        run: A run directory; its best weights are used.
        recipe: Of the run, for inference.
        inputs: Image files, folders that are searched through, csv files with a ``path`` column.
        out: ``.jsonl`` or ``.csv``.
        render: Folder for one picture a prediction.
        console: Where to report.

    Raises:
        UserError: Nothing to predict on, a missing or unreadable image, or a place that cannot be written.
    """
    paths = list_images(inputs)
    check_outputs(out, render)
    classes = RunDirectory(run).read_classes()
    task = build_task(recipe, classes)
    load_weights(task.network, run, min_matched_share=1.0)
    loader = loose_images(recipe.data, recipe.augment, paths, skip_with="give --on-bad-image skip")
    collected = _Collect(classes)
    with logging_to(None):
        build_trainer(recipe, [collected]).predict(as_module(task), dataloaders=loader, return_predictions=False)
    write_predictions(out, collected.predictions, "path")
    if render:
        render.mkdir(parents=True, exist_ok=True)
        titles = _below_common_parent([prediction.name for prediction in collected.predictions])
        for number, (title, prediction) in enumerate(zip(titles, collected.predictions, strict=True)):
            _render(render, number, title, prediction)
    console.print(f"{len(collected.predictions)} predictions in {out}")
    if loader.dataset.skipped:
        console.print(f"{len(loader.dataset.skipped)} unreadable images were skipped:")
        for path, reason in loader.dataset.skipped.items():
            console.print(f"  {path}: {reason}")


class _Collect(Callback):
    """Turns probabilities into predictions batch by batch; an image that stands in for a skipped one counts once."""

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes
        self._by_path: dict[str, Prediction] = {}

    @property
    def predictions(self) -> list[Prediction]:
        return list(self._by_path.values())

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        confidences, labels = outputs.topk(min(TOP, len(self.classes)), dim=1)
        for path, values, indices in zip(batch["id"], confidences.tolist(), labels.tolist(), strict=True):
            top = [(self.classes[index], value) for index, value in zip(indices, values, strict=True)]
            self._by_path.setdefault(path, Prediction(path, top))


def list_images(inputs: Sequence[Path]) -> list[str]:
    """Every image that the inputs name, in order, each once.

    Raises:
        UserError: An input or a file that a csv lists does not exist, a csv has no ``path`` column, or there is no
            image at all.
    """
    paths = list(dict.fromkeys(str(path) for entry in inputs for path in _images_of(entry)))
    if not paths:
        raise UserError(
            f"{', '.join(map(str, inputs))}: no images there; known endings are {' '.join(sorted(IMAGE_ENDINGS))}"
        )
    return paths


def _images_of(entry: Path) -> Iterator[Path]:
    if entry.is_dir():
        yield from sorted(path for path in entry.rglob("*") if is_image_file(path))
    elif not entry.exists():
        raise UserError(f"{entry}: no such image, folder or csv file")
    elif entry.suffix.lower() == ".csv":
        yield from _images_in_table(entry)
    else:
        yield entry


def _images_in_table(table: Path) -> Iterator[Path]:
    for line, row in read_table(table).rows_with("path"):
        path = table.parent / row["path"]
        if not path.is_file():
            raise UserError(f"{table} line {line}: no file {path}. Paths are relative to {table.absolute().parent}")
        yield path


def _below_common_parent(paths: Sequence[str]) -> list[str]:
    """Paths relative to the folder that holds all of them, so that their own folders are told where they differ."""
    if not paths:
        return []
    places = [Path(os.path.normpath(Path(path).absolute())) for path in paths]
    try:
        common = os.path.commonpath([place.parent for place in places])
    except ValueError:  # on different drives
        return list(map(str, places))
    return [str(place.relative_to(common)) for place in places]


def _render(folder: Path, number: int, title: str, prediction: Prediction) -> None:
    picture = render_prediction(Image.fromarray(decode(prediction.name)), title, prediction.top)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    name = as_file_name(str(Path(title).with_suffix("")))
    write_bytes(folder / f"{number:05d}-{name}.png", buffer.getvalue())
