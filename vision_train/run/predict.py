"""Predicting with a finished run: a table, and pictures if asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console

from vision_train.data.dataset import SampleLoader
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.recipe import Recipe
from vision_train.run.best_weights import load_best
from vision_train.run.directory import open_run
from vision_train.run.evaluate import load_for_inference
from vision_train.run.log import logging_to
from vision_train.run.phase import build_task
from vision_train.run.predictions import ENDINGS, RESULTS, check_outputs, write_predictions
from vision_train.run.texts import check_texts
from vision_train.run.trainer import build_trainer, settle_threads
from vision_train.tasks.base import Task
from vision_train.tasks.predicted import Predicted
from vision_train.wording import count_of


class Renderer(Protocol):
    """Draws predictions as they come."""

    def add(self, name: str, drawing: Any) -> None:
        """Draw one sample."""

    def remarks(self) -> list[str]:
        """What to tell the user at the end."""


def predict_run(
    run: Path,
    inputs: Sequence[Path],
    *,
    overrides: Sequence[str],
    out: Path | None,
    render: Path | None,
    images: Path | None,
    console: Console,
    texts: Sequence[str] = (),
) -> None:
    """Predict batch by batch and write a table, and pictures if asked for. Answers to texts are printed too.

    Args:
        run: A run directory; its best weights are used.
        inputs: Files, folders and tables, as the kind of data of the run reads them.
        overrides: Recipe keys to change, such as ``data.on_bad=skip``.
        out: ``.jsonl`` or ``.csv``; ``.json`` for the results of a kind of data whose field has a format of them. None
            writes no table.
        render: Folder for pictures of each prediction.
        images: Folder of images that samples were made of, called like them, for the pictures.
        console: Where to report.
        texts: What is looked for in each of the inputs, which are images then.

    Raises:
        UserError: There is no such run, nothing to predict on, an input that cannot be used, an option that is for
            other runs, or a place that cannot be written.
    """
    if images and not render:
        raise UserError("--images: is for pictures; say where to put them with --render DIR")
    directory = open_run(run, with_weights=True)
    check_texts(run, texts)
    recipe = load_for_inference(directory.recipe, overrides)
    settle_threads(recipe)
    task = build_task(recipe, directory.read_classes())
    _check_predicts(task, run, render)
    load_best(task, run)
    loader = _loader(recipe, inputs, texts, run)
    check_outputs(out, render, ENDINGS if recipe.kind.results is None else (*ENDINGS, RESULTS))
    as_results = out is not None and out.suffix == RESULTS
    results = recipe.kind.open_results(recipe, task.classes, loader.dataset.samples) if as_results else None
    # A file of results holds all that was found; only pictures and tables leave something out.
    notes = [] if results and not render else task.prediction_notes()
    for note in [*loader.dataset.notes, *notes, *(results.notes if results else [])]:
        console.print(f"note: {note}")
    opened = _open_renderer(render, images, recipe, loader, console) if render else nullcontext()
    with logging_to(None), opened as renderer:
        collected = _Collect(renderer, keep_results=results is not None)
        build_trainer(recipe, [collected]).predict(task, dataloaders=loader, return_predictions=False)
    kind, predictions = recipe.kind, list(collected.predictions.values())
    for predicted in predictions if texts else ():
        console.print(f"{printable(predicted.id)}: {predicted.sentence}")
    if out is not None:
        written = write_predictions(out, predictions, kind.id_column, kind.noun, results)
        console.print(f"{written} in {out}")
    for remark in renderer.remarks() if renderer else []:
        console.print(remark)
    report_skipped(console, recipe, loader.dataset.skipped)


def _loader(recipe: Recipe, inputs: Sequence[Path], texts: Sequence[str], run: Path) -> SampleLoader:
    reader, learner = recipe.kind.load(), f"the run {run}"
    if texts:
        return reader.loose_with_texts(recipe, inputs, texts, learner=learner)
    return reader.loose(recipe, inputs, learner=learner)


def _check_predicts(task: Task, run: Path, render: Path | None) -> None:
    if type(task).predicted is Task.predicted:
        raise UserError(
            f"{run}: is a run of {task.recipe.task}, which predicts nothing by itself; fine-tune from it first, with "
            f"model.checkpoint={run} in a recipe of another task"
        )
    if render and task.undrawn:
        raise UserError(f"--render: {run} is a run of {task.recipe.model.name}, {task.undrawn}; leave it out")


def _open_renderer(
    folder: Path, images: Path | None, recipe: Recipe, loader: SampleLoader, console: Console
) -> AbstractContextManager[Renderer]:
    report = recipe.kind.load_report()
    if report is None or not hasattr(report, "open_renderer"):
        raise UserError(f"--render: predictions for {recipe.kind.noun} have no pictures; leave it out")
    sources, notes = recipe.kind.load().picture_sources(loader.dataset.samples, recipe.data, images)
    for note in notes:
        console.print(f"note: {note}")
    opened: AbstractContextManager[Renderer] = report.open_renderer(folder, **sources)
    return opened


def report_skipped(console: Console, recipe: Recipe, skipped: Mapping[str, str]) -> None:
    """Say which samples were left out, and why."""
    if skipped:
        console.print(f"skipped {count_of(len(skipped), recipe.kind.noun)} that cannot be used:")
        for name, reason in skipped.items():
            console.print(f"  {name}: {reason}")


class _Collect(Callback):
    """Keeps predictions and draws them; a sample that stands in for a skipped one counts once."""

    def __init__(self, renderer: Renderer | None, *, keep_results: bool) -> None:
        self.renderer, self.keep_results = renderer, keep_results
        self.predictions: dict[str, Predicted] = {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, Task)
        for predicted in pl_module.predicted(batch, outputs):
            if predicted.id not in self.predictions:
                if self.renderer is not None and predicted.drawing is not None:
                    self.renderer.add(predicted.id, predicted.drawing)
                results = predicted.results if self.keep_results else None
                self.predictions[predicted.id] = replace(predicted, drawing=None, results=results)
