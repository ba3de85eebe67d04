"""One phase inside a run directory: what is said of it, and the files that it leaves there."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from vision_train.artefacts import Artefact, Codec, Items, Table, write_artefact
from vision_train.data.content import CONTENTS
from vision_train.data.module import POOL_SPLIT
from vision_train.files import write_json
from vision_train.metrics_log import MetricsLog, read_metrics
from vision_train.recipe import Recipe, write_recipe
from vision_train.run.attention import attention_line, attention_table
from vision_train.run.checkpointing import KEPT, link_or_copy
from vision_train.run.delivery import delivered
from vision_train.run.differences import Difference
from vision_train.run.directory import RunDirectory, relative
from vision_train.run.last_checkpoint import last_checkpoint, progress
from vision_train.run.parts import phases_of
from vision_train.run.phase import Prepared, fit_phase
from vision_train.run.plan import FinishedPhase, Phase
from vision_train.run.range_test import NAME as RANGE_TEST
from vision_train.run.sample_lists import SAMPLES_FILE, read_samples, write_samples
from vision_train.run.steps import batch_in_words, concerns, count_steps, going_on, steps_in_words
from vision_train.run.trainer import build_trainer
from vision_train.wording import count_of


@contextmanager
def saying_how_to_go_on(directory: RunDirectory, name: str, before: str | None, console: Console) -> Iterator[None]:
    """Say what is saved, and how to go on, where the user stops a phase or what is done before its first step.

    Args:
        directory: The run.
        name: Of the phase.
        before: Name of the phase that finished before it; None for the first one.
        console: Where that goes.

    Raises:
        KeyboardInterrupt: The user stopped it.
    """
    try:
        yield
    except KeyboardInterrupt:
        if epoch := _epochs_saved(directory, name):
            saved = f"epoch {epoch} is saved"
        else:
            saved = f"phase {before} is saved" if before else "no epoch was finished yet"
        command = shlex.join(["vision-train", "fit", "--resume", str(relative(directory.path))])
        console.print(f"Stopped; {saved}. Go on with: {command}")
        raise


def run_phase(
    directory: RunDirectory,
    phase: Phase,
    prepared: Prepared,
    finished: Sequence[FinishedPhase],
    log: MetricsLog | None,
    console: Console,
) -> None:
    """Train a phase, or go on with it, and leave its figures and artefacts in the run directory.

    Args:
        directory: The run.
        phase: The phase.
        prepared: The same, built.
        finished: The phases before it.
        log: The metrics log; None on every process but the first.
        console: Where progress goes.
    """
    name, at_start = phase.name, list[str]()
    if log:
        directory.phase(name).mkdir(parents=True, exist_ok=True)  # absent where the phase was not known at the start
        directory.write_metrics(prepared.task.metrics)
        if not phase.part:  # parts are many, and much like the run itself
            at_start = _announce(directory, phase, prepared, console)
        _note_start(directory, name, prepared, log)
        _keep_conditions(directory, name, prepared)
    result = fit_phase(prepared, directory.phase(name), name, log, console)
    if log:
        for warning in result.warnings:
            warn(f"{phase.title}: {warning}" if phase.part else warning, console)
        share = json.loads(_share_file(directory, name).read_text(encoding="utf-8"))
        result = replace(result, figures={**result.figures, "checkpoint/matched_share": share})
        so_far = [*phases_of(phase.part, finished), FinishedPhase(name, directory.phase(name), result.figures)]
        if phase.part or delivered(so_far, prepared.recipe.run.select) is so_far[-1]:
            _keep_artefacts(directory, phase, result.artefacts, codecs_of(prepared.recipe))
            if log.listener:
                log.listener.artefacts(name, int(result.figures["train/steps"]), result.artefacts)
        if result.stopped_early:
            warn(result.stopped_early, console)
        state: dict[str, Any] = {"name": name, "recipe": prepared.recipe.name, "figures": result.figures}
        state |= {"stopped_early": result.stopped_early} if result.stopped_early else {}
        warnings = list(dict.fromkeys([*at_start, *result.warnings]))
        state |= {"skipped": result.skipped, "guesses": result.guesses, "warnings": warnings}
        write_json(directory.phase(name) / "phase.json", state)


def warn(text: str, console: Console) -> None:
    """Say what the user should know of the result, on the screen and in the log."""
    console.print(f"warning: {text}")
    logging.getLogger("vision_train").warning(text)


def codecs_of(recipe: Recipe) -> Mapping[str, Codec]:
    """How artefacts that only one kind of data has are stored."""
    return getattr(recipe.kind.load_report(), "CODECS", {})


def _share_file(directory: RunDirectory, name: str) -> Path:
    return directory.phase(name) / "matched_share.json"


def _note_start(directory: RunDirectory, name: str, prepared: Prepared, log: MetricsLog) -> None:
    """Keep how much the start filled, and where a phase that was cut short goes on."""
    if not last_checkpoint(directory, name).exists():
        share = min((report.matched_share for report in prepared.load_reports), default=0.0)
        write_json(_share_file(directory, name), share)
    if any(line["phase"] == name for line in read_metrics(log.path)):
        epochs, steps = progress(last_checkpoint(directory, name))
        log.note_resumption(name, max(epochs - 1, 0), steps)


def _keep_conditions(directory: RunDirectory, name: str, prepared: Prepared) -> None:
    """Write down recipe and samples, where the phase begins or goes on with others."""
    goes_on, folder = last_checkpoint(directory, name).exists(), directory.phase(name)
    if goes_on and not prepared.resumed_with:
        return
    write_recipe(folder / "recipe.yaml", prepared.recipe)
    before = read_samples(folder / SAMPLES_FILE) if goes_on else None
    write_samples(folder / SAMPLES_FILE, prepared.data, before or {})
    CONTENTS.keep(directory.path.parent)


def _keep_artefacts(
    directory: RunDirectory, phase: Phase, artefacts: list[Artefact], codecs: Mapping[str, Codec]
) -> None:
    """Keep what the report shows of the run itself, and of a part the items that its result is judged by."""
    if not phase.part:
        directory.write_artefacts(_renamed(phase, artefacts), codecs)
        return
    for artefact in artefacts:
        if phase.is_result and isinstance(artefact, Items):
            write_artefact(directory.phase(phase.name) / "artefacts", artefact)


def _renamed(phase: Phase, artefacts: list[Artefact]) -> list[Artefact]:
    """Artefacts under names that those of a result do not take; items are kept of results alone."""
    if phase.is_result:
        return artefacts
    shown: list[Any] = [artefact for artefact in artefacts if not isinstance(artefact, Items)]
    return [replace(a, name=f"{phase.name}_{a.name}", title=f"{a.title}, phase {phase.name}") for a in shown]


def _announce(directory: RunDirectory, phase: Phase, prepared: Prepared, console: Console) -> list[str]:
    """Say what is about to be trained, on what, from what, and where to.

    Returns:
        What was warned of: of the data, and of the length of training. What was changed before a run went on is kept in
        a table of its own.
    """
    recipe, data, name = prepared.recipe, prepared.data, phase.name
    console.print(f"{recipe.name}: {data.described()} -> {relative(directory.path)}")
    for number, line in enumerate(data.class_lines()):
        console.print(line if number else f"{data.listed}: {line}")
    for remark in [*data.notes, *prepared.task.notes]:
        console.print(f"note: {remark}")
    of_data = [*data.class_doubts(), *data.warnings]
    for warning in of_data:
        warn(warning, console)
    if data.counts.get(POOL_SPLIT) and recipe.semi.method == "none":
        console.print(f"note: semi.method=none, so the unlabelled {data.noun} only say how long an epoch is")
    if data.left_out:
        console.print(f"left out {count_of(len(data.left_out), data.noun)}, which the run is measured on")
    _announce_start(directory, name, prepared, console)
    console.print(f"attention: {attention_line(prepared.attention)}")
    for remark in data.preparation:
        console.print(f"note: {remark}")
    if (table := attention_table(prepared.attention)) is not None:
        title = table.title if phase.is_result else f"{table.title}, phase {name}"
        directory.write_artefacts([replace(table, name=f"{name}_attention", title=title)])
    begun: list[Any] = prepared.artefacts
    directory.write_artefacts([replace(a, name=f"{name}_{a.name}", title=f"{a.title}, phase {name}") for a in begun])
    trainer = build_trainer(recipe, [])
    steps = going_on(count_steps(recipe, data, trainer), recipe, *progress(last_checkpoint(directory, name)))
    console.print(f"steps: {steps_in_words(steps)}; {batch_in_words(data, trainer, steps)}")
    found_rate = (directory.artefacts / f"{RANGE_TEST}.json").is_file()
    of_length = list(concerns(recipe, data, trainer, steps, found_rate=found_rate))
    for concern in of_length:
        warn(concern, console)
    return [*of_data, *of_length]


def _announce_start(directory: RunDirectory, name: str, prepared: Prepared, console: Console) -> None:
    """Say which weights training starts from, and keep the reports of what files filled."""
    for report in prepared.load_reports:
        console.print(report.summary())
        table = report.table()
        directory.write_artefacts([replace(table, name=f"{name}_{table.name}")])
    if prepared.load_reports:
        return
    if prepared.resumed_with:
        _announce_differences(directory, name, prepared.resumed_with, console)
    if epoch := _epochs_saved(directory, name):
        console.print(f"going on after epoch {epoch}")
    else:
        console.print("starting from random weights; model.checkpoint names a file or run to start from")


def _announce_differences(directory: RunDirectory, name: str, found: list[Difference], console: Console) -> None:
    """Say what is otherwise than when the checkpoint was written, and keep it for the report."""
    epoch = _epochs_saved(directory, name)
    for each in found:
        accepted = replace(each, verdict="accepted", why="") if each.verdict == "accept" else each
        warn(f"not as in the recipe, data and versions of the last checkpoint: {accepted}", console)
    rows = [[each.key, each.then, each.now] for each in found]
    title = f"What was changed after epoch {epoch}, when the run was resumed"
    directory.write_artefacts([Table(f"{name}_resumed_{epoch}", title, ["what", "until then", "since"], rows)])


def _epochs_saved(directory: RunDirectory, name: str) -> int:
    return progress(last_checkpoint(directory, name))[0]


def publish(directory: RunDirectory, name: str) -> None:
    """Let the run's own ``checkpoints/`` name the files of a phase, also of one that was interrupted."""
    target = directory.path / "checkpoints"
    target.mkdir(exist_ok=True)
    folder = directory.phase(name) / "checkpoints"
    kept = [file.name for file in folder.glob(KEPT)]
    for file in ("last.ckpt", "best.ckpt", *kept):
        if (folder / file).exists():
            link_or_copy(folder / file, target / file)
    for earlier in target.glob(KEPT):  # of a phase whose weights were the run's before
        if earlier.name not in kept:
            earlier.unlink()
