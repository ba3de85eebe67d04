"""Measuring a finished run on one of its splits."""

from __future__ import annotations

import time
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
from vision_train.run.trainer import build_trainer, call_trainer, settle_threads
from vision_train.tasks import augmented_views


def evaluate_run(
    run: Path,
    split: str | None,
    overrides: Sequence[str] = (),
    console: Console | None = None,
    views: str | None = None,
) -> dict[str, float | int]:
    """Metrics of a run's best weights on a split; the run directory is only read.

    Args:
        run: A run directory.
        split: A split of the kind of data, without random augmentation; None for the one that the run was measured on.
        overrides: Recipe keys to change, such as ``data.root`` for other images of the same classes. Those are the
            split as they are, unless they are divided into splits themselves; nothing is cut from them. A file that
            divides the run's own samples does not count for others, unless it is named again.
        console: Where to say what the reader of the figures should know of the data, such as what is left out.
        views: Average over views of each sample: ``flips`` or ``five-crop``; None measures it once, as in the run.

    Returns:
        ``<split>/<metric>`` and the number of samples. With views ``<split>_tta_<views>/<metric>``, so that nothing
        takes them for the figures of the run, and the number of views and the seconds of the pass.

    Raises:
        UserError: There is no such run, it has no weights yet, its data cannot be read, or its task averages no views.
    """
    recipe = load_for_inference(open_run(run, with_weights=True).recipe, overrides)
    settle_threads(recipe)
    split = split or recipe.kind.judged
    tta = augmented_views(recipe, views) if views else None
    name = f"{split}_tta_{views.replace('-', '_')}" if views else split
    with logging_to(None):
        scanned, notes = _scan(run, tta.recipe if tta else recipe, split, _keys_of(overrides))
        # The network is that of the run, also where its images are read larger.
        prepared = prepare(Scanned(recipe, scanned.data) if tta else scanned)
        load_best(prepared.task, run)
        if tta:
            notes.append(f"probabilities are the mean over {tta.count} views: {tta.described}")
            prepared.task.network = tta.averaged(prepared.task.network)
        if console:
            console.print("".join(f"note: {remark}\n" for remark in notes + prepared.data.notes), end="")
        passes = PassProgress(prepared.data.noun, "evaluating")
        trainer = build_trainer(prepared.recipe, [BadSamples(prepared.data), passes])
        prepared.task.test_split = name
        loaders, began = prepared.data.evaluation_loaders(split), time.monotonic()
        call_trainer(trainer, "test", prepared.task, dataloaders=loaders, verbose=False)
        seconds = time.monotonic() - began
    figures: dict[str, float | int] = {key: value.item() for key, value in trainer.callback_metrics.items()}
    skipped = len(loaders[0].dataset.skipped)  # samples of companions are no part of the split
    if tta:
        figures = {f"{name}/views": tta.count, f"{name}/seconds": seconds, **figures}
    return {f"{name}/samples": prepared.data.counts[split] - skipped, f"{name}/skipped": skipped, **figures}


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
