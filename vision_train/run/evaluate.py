"""Measuring a finished run on one of its splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from vision_train.data.module import SampleDataModule
from vision_train.errors import UserError
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.bad_samples import BadSamples
from vision_train.run.best_weights import load_best
from vision_train.run.directory import open_run
from vision_train.run.inference import check_split, load_for_inference
from vision_train.run.learnt import learnt_before
from vision_train.run.log import logging_to
from vision_train.run.phase import Scanned, prepare, scan
from vision_train.run.progress import PassProgress
from vision_train.run.trainer import build_trainer


def evaluate_run(
    run: Path, split: str | None, overrides: Sequence[str] = (), console: Console | None = None
) -> dict[str, float | int]:
    """Metrics of a run's best weights on a split; the run directory is only read.

    Args:
        run: A run directory.
        split: A split of the kind of data, without random augmentation; None for the one that the run was measured on.
        overrides: Recipe keys to change, such as ``data.root`` for other images of the same classes. Those are the
            split as they are, unless they are divided into splits themselves; nothing is cut from them. A file that
            divides the run's own samples does not count for others, unless it is named again.
        console: Where to say what the reader of the figures should know of the data, such as what is left out.

    Returns:
        ``<split>/<metric>`` and the number of samples.

    Raises:
        UserError: There is no such run, it has no weights yet, or its data cannot be read.
    """
    recipe = load_for_inference(open_run(run, with_weights=True).recipe, overrides)
    split = split or recipe.kind.judged
    with logging_to(None):
        scanned, notes = _scan(run, recipe, split, _keys_of(overrides))
        prepared = prepare(scanned)
        load_best(prepared.task, run)
        if console:
            console.print("".join(f"note: {remark}\n" for remark in notes + prepared.data.notes), end="")
        passes = PassProgress(prepared.data.noun, "evaluating")
        trainer = build_trainer(prepared.recipe, [BadSamples(prepared.data), passes])
        prepared.task.test_split = split
        loaders = prepared.data.evaluation_loaders(split)
        trainer.test(prepared.task, dataloaders=loaders, verbose=False)
    figures: dict[str, float | int] = {key: value.item() for key, value in trainer.callback_metrics.items()}
    skipped = len(loaders[0].dataset.skipped)  # samples of companions are no part of the split
    return {f"{split}/samples": prepared.data.counts[split] - skipped, f"{split}/skipped": skipped, **figures}


def _scan(run: Path, recipe: Recipe, split: str, named: set[str]) -> tuple[Scanned, list[str]]:
    """List the samples of a split, with what the user should know of how other data are read."""
    check_split(recipe, split)
    directory = open_run(run)
    own = load_recipe(directory.recipe, runnable=False).data
    section, notes = recipe.data.for_other_data(own, {*recipe.data.differing(own), *named})
    only = split if section.differing(own) else None
    scanned = scan(replace(recipe, data=section), directory.read_classes(), only)
    if split not in (held := scanned.data.counts):
        raise UserError(f"--split {split}: this run has no {scanned.data.noun} in it; there are {', '.join(held)}")
    if only or split not in ("train", "val"):  # the training data of the run itself need no note
        notes += _notes_on_learnt(scanned.data, split, run)
    return scanned, notes


def _notes_on_learnt(data: SampleDataModule, split: str, run: Path) -> list[str]:
    learnt, notes = learnt_before(data.samples(split), str(run))
    if learnt:
        count = f"{len(learnt)} of the {data.counts[split]} {data.noun}, such as {learnt[0].id}"
        notes.append(f"{count}, are among those that {run} learnt from; the figures will be too high")
    return notes


def _keys_of(overrides: Sequence[str]) -> set[str]:
    """Keys of the section ``data`` that were named."""
    keys = (each.partition("=")[0].strip() for each in overrides)
    return {key.removeprefix("data.") for key in keys if key.startswith("data.")}
