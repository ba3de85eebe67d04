"""Predicting with a finished run: a table, and pictures if asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TextIO

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console

from vision_train.data.dataset import SampleLoader
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.progress import doing
from vision_train.recipe import Recipe
from vision_train.run.best_weights import load_best
from vision_train.run.directory import RunDirectory, open_run
from vision_train.run.inference import DEFAULT, check_prediction
from vision_train.run.log import logging_to
from vision_train.run.phase import build_task
from vision_train.run.predictions import FORCE, RESULTS, JsonLines, PredictionWriter, check_outputs, open_predictions
from vision_train.run.progress import PassProgress
from vision_train.run.shards import Shard, files_of
from vision_train.run.trainer import build_trainer, call_trainer, settle_threads
from vision_train.tasks.base import Task
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
    lines: TextIO | None = None,
    force: bool = False,
    shard: Shard | None = None,
) -> None:
    """Predict batch by batch and write each batch before the next: a table, and pictures if asked for.

    Answers to texts are printed too, and so is that for a single sample.

    Args:
        run: A run directory; its best weights are used.
        inputs: Files, folders and tables, as the kind of data of the run reads them.
        overrides: Recipe keys to change, such as ``data.on_bad=skip``.
        out: ``.jsonl`` or ``.csv``; ``.json`` for the results of a kind of data whose field has a format of them. None
            writes :data:`vision_train.run.inference.DEFAULT` where no answers are printed.
        render: Folder for pictures of each prediction.
        images: Folder of images that samples were made of, called like them, for the pictures.
        console: Where to report.
        texts: What is looked for in each of the inputs, which are images then.
        lines: Takes the predictions as JSON lines, instead of answers for a reader.
        force: Write over what is there already.
        shard: Predict this share of the inputs into a file of its own, with a manifest; one that is whole is left
            alone, one that was cut short is begun anew.

    Raises:
        UserError: There is no such run, nothing to predict on, an input that cannot be used, an option that is for
            other runs, or a place that cannot be written or is taken.
    """
    options: dict[str, Any] = {"out": out, "render": render, "images": images, "texts": texts, "force": force}
    recipe = check_prediction(run, overrides, shard=shard, **options)
    directory = open_run(run, with_weights=True)
    asked = _Asked(run, recipe, inputs, lines=lines, **options)
    if shard is None:
        _predict(asked, directory, console)
        return
    files = files_of(shard, out or DEFAULT, directory, inputs, overrides)
    with files.held():
        if not force and (whole := files.finished()):
            console.print(
                f"{files.out}: is finished, {whole['predictions']:,} predictions; left as it is. If images have come "
                "into a folder since, give --force"
            )
            return
        if not force and files.out.exists() and not files.manifest.exists():
            raise UserError(f"--out {files.out}: exists without a manifest; {FORCE}")
        files.begin()
        files.finish(*_predict(replace(asked, out=files.out, force=True, taken=shard.takes), directory, console))


@dataclass(frozen=True)
class _Asked:
    """What is predicted, and where it goes; as the arguments of :func:`predict_run`."""

    run: Path
    recipe: Recipe
    inputs: Sequence[Path]
    out: Path | None
    render: Path | None
    images: Path | None
    texts: Sequence[str]
    lines: TextIO | None
    force: bool
    taken: Callable[[str], bool] | None = None
    """Chooses a share of the inputs; None takes all."""


def _predict(asked: _Asked, directory: RunDirectory, console: Console) -> tuple[int, int]:
    """Predict into one file.

    Returns:
        Samples that were predicted, and those that were skipped.
    """
    run, recipe, out, render, lines = asked.run, asked.recipe, asked.out, asked.render, asked.lines
    settle_threads(recipe)
    with doing(f"building {recipe.model.name}"):
        task = build_task(recipe, directory.read_classes())
        _check_predicts(task, run, render)
    with doing(f"listing {recipe.kind.noun}"):
        loader = _loader(asked)
    printed = lines is None and asked.taken is None and (bool(asked.texts) or len(loader.dataset) == 1)
    if out is None and lines is None and not printed:
        out = DEFAULT
        check_outputs(out, render, force=asked.force)
    with doing(f"loading the weights of {run}"):
        load_best(task, run)
    as_results = out is not None and out.suffix == RESULTS
    results = recipe.kind.open_results(recipe, task.classes, loader.dataset.samples) if as_results else None
    # A file of results holds all that was found; only pictures and tables leave something out.
    notes = [] if results and not render else task.prediction_notes()
    for note in [*loader.dataset.notes, *notes, *(results.notes if results else [])]:
        console.print(f"note: {note}")
    with ExitStack() as opened:
        opened.enter_context(logging_to(None))
        renderer = (
            opened.enter_context(_open_renderer(render, asked.images, recipe, loader, console)) if render else None
        )
        key = recipe.kind.id_column
        table = None if out is None else opened.enter_context(open_predictions(out, key, results))
        printer = None if lines is None else JsonLines(lines, key, ascii_only=True)
        passed_on = _PassOn([each for each in (table, printer) if each], renderer, console if printed else None)
        if len(loader.dataset):  # a share of few inputs may be empty
            trainer = build_trainer(recipe, [passed_on, PassProgress(recipe.kind.noun)])
            call_trainer(trainer, "predict", task, dataloaders=loader, return_predictions=False)
    said = [] if table is None else [f"{table.counted(recipe.kind.noun)} in {out}"]
    for line in said + (renderer.remarks() if renderer else []):
        console.print(line)
    report_skipped(console, recipe, loader.dataset.skipped)
    return passed_on.count, len(loader.dataset.skipped)


def _loader(asked: _Asked) -> SampleLoader:
    reader, learner = asked.recipe.kind.load(), f"the run {asked.run}"
    if asked.texts:
        return reader.loose_with_texts(asked.recipe, asked.inputs, asked.texts, learner=learner)
    # Kinds that know no shares need not know the argument.
    share = {} if asked.taken is None else {"taken": asked.taken}
    return reader.loose(asked.recipe, asked.inputs, learner=learner, **share)


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


class _PassOn(Callback):
    """Hands predictions on as they come and keeps none; a sample that stands in for a skipped one counts once."""

    def __init__(self, writers: Sequence[PredictionWriter], renderer: Renderer | None, answers: Console | None) -> None:
        self.writers, self.renderer, self.answers = writers, renderer, answers
        self._seen: set[str] = set()

    @property
    def count(self) -> int:
        """Samples so far."""
        return len(self._seen)

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
            if predicted.id in self._seen:
                continue
            self._seen.add(predicted.id)
            if self.renderer is not None and predicted.drawing is not None:
                self.renderer.add(predicted.id, predicted.drawing)
            for writer in self.writers:
                writer.add(predicted)
            if self.answers is not None:
                said = predicted.sentence or json.dumps(predicted.row, ensure_ascii=False)
                self.answers.print(f"{printable(predicted.id)}: {said}")
