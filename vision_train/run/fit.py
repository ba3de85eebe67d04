"""From a recipe to a finished run directory: one or more phases, the summary, the report."""

from __future__ import annotations

import json
import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console

from vision_train.artefacts import Artefact, Items
from vision_train.data import noun
from vision_train.errors import UserError
from vision_train.files import write_json
from vision_train.metrics_log import MetricsLog, read_metrics
from vision_train.processes import launched_rank, leave_process_group
from vision_train.recipe import Recipe, write_recipe
from vision_train.report import write_report
from vision_train.run.attention import attention_line, attention_table
from vision_train.run.checkpointing import link_or_copy
from vision_train.run.directory import PASSED_ON, RunDirectory, create_run, open_run
from vision_train.run.log import logging_to
from vision_train.run.overlap import keep_apart
from vision_train.run.phase import PhaseResult, Prepared, fit_phase, prepare
from vision_train.run.phases import Phases, check_handover, plan_phases, stored_phases, warm_up_note
from vision_train.run.trainer import check_devices


def fit(recipe: Recipe, *, run_dir: Path | None, command: list[str], console: Console) -> RunDirectory:
    """Run a recipe from the start.

    Everything that can fail on the user's input is built before the run directory is made.

    Args:
        recipe: The resolved recipe.
        run_dir: Where to put the run; None numbers a new one under ``runs/``.
        command: The command line, for the record.
        console: Where progress goes.

    Raises:
        UserError: The recipe, data, checkpoint or devices do not fit together, or the place is taken.
    """
    phases = plan_phases(recipe)
    prepared = prepare_phases(phases)
    phases = [(name, phase.recipe) for name, phase in prepared.items()]
    directory = create_run(phases[-1][1], prepared["fit"].data.classes, run_dir, command)
    if launched_rank() == 0:
        for name, phase_recipe in phases:
            directory.phase(name).mkdir(parents=True)
            write_recipe(directory.phase(name) / "recipe.yaml", phase_recipe)
    try:
        _run_phases(directory, phases, prepared, console)
    except UserError:
        if launched_rank() == 0:
            directory.discard()
        raise
    return directory


def prepare_phases(phases: Phases) -> dict[str, Prepared]:
    """Build every phase by name and check that the devices suit it and that each can start from the one before.

    Raises:
        UserError: The recipes, data, checkpoints or devices do not fit together.
    """
    with logging_to(None):
        prepared = {name: prepare(phase) for name, phase in phases}
        for earlier in list(prepared.values())[:-1]:
            keep_apart(earlier.data, prepared["fit"].data)
        for phase in prepared.values():
            check_devices(phase.recipe, phase.data)
        for earlier, later in pairwise(prepared.values()):
            check_handover(earlier, later)
    return prepared


def resume(run: Path, *, console: Console) -> RunDirectory:
    """Go on with a run that was cut short, at the start of the epoch it was in.

    Raises:
        UserError: There is no run, it is finished, or its data has got other classes.
    """
    directory = open_run(run)
    if directory.summary.exists() and launched_rank() == 0:
        raise UserError(f"{run}: is finished; start from its weights with model.checkpoint={run}")
    phases = stored_phases(directory)
    # The label map of the start: a class folder that came, went or was renamed since must not shift the labels.
    classes = {"fit": directory.read_classes()}
    prepared = {}
    with logging_to(None):
        for name, recipe in phases:
            if not _finished(directory, name):
                # What it began with is in its own last checkpoint by now; the file it came from may be gone.
                begun = _last_checkpoint(directory, name).exists()
                start = replace(recipe.model, checkpoint=None) if begun else recipe.model
                prepared[name] = prepare(replace(recipe, model=start), classes.get(name))
    for name in prepared.keys() - {"fit"}:
        keep_apart(prepared[name].data, prepared["fit"].data)
    _run_phases(directory, phases, prepared, console)
    return directory


def _run_phases(directory: RunDirectory, phases: Phases, prepared: dict[str, Prepared], console: Console) -> None:
    first_process = launched_rank() == 0
    log = MetricsLog(directory.metrics, directory.seconds_so_far()) if first_process else None
    console = console if first_process else Console(quiet=True)
    result: PhaseResult | None = None
    with logging_to(directory.path / "log.txt" if first_process else None), _process_group():
        for name, recipe in phases:
            done = _finished(directory, name)
            if done:
                result = done
                continue
            if result and not _last_checkpoint(directory, name).exists():
                start = replace(recipe.model, checkpoint=str(result.checkpoint))
                prepared[name] = prepare(replace(recipe, model=start), prepared[name].data.classes)
                if name != "fit":
                    keep_apart(prepared[name].data, prepared["fit"].data)
            if len(phases) > 1:
                console.print(f"phase {name}: {recipe.name}")
            try:
                result = _one_phase(directory, name, prepared[name], log, console)
            except KeyboardInterrupt:
                epoch = _epochs_saved(directory, name)
                saved = f"epoch {epoch} is saved" if epoch else "no epoch was finished yet"
                command = shlex.join(["vision-train", "fit", "--resume", str(_relative(directory.path))])
                console.print(f"Stopped; {saved}. Go on with: {command}")
                raise
            finally:
                if first_process and name == "fit":
                    _publish(directory, name)
        if first_process and result:
            _conclude(directory, result, noun(phases[-1][1]), console)


@contextmanager
def _process_group() -> Iterator[None]:
    """Leave nothing behind in this process that a later run in it would stumble over."""
    try:
        yield
    finally:
        leave_process_group()
        os.environ.pop(PASSED_ON, None)


def _one_phase(
    directory: RunDirectory, name: str, prepared: Prepared, log: MetricsLog | None, console: Console
) -> PhaseResult:
    share_file = directory.phase(name) / "matched_share.json"
    if log:
        _announce(directory, name, prepared, console)
        begun = _last_checkpoint(directory, name).exists()
        if not begun:
            write_json(share_file, min((report.matched_share for report in prepared.load_reports), default=0.0))
        if any(line["phase"] == name for line in read_metrics(log.path)):
            log.note_resumption(name, *_progress(directory, name))
    result = fit_phase(prepared, directory.phase(name), name, log, console)
    if log:
        for warning in result.warnings:
            console.print(f"warning: {warning}")
            logging.getLogger("vision_train").warning(warning)
        share = json.loads(share_file.read_text(encoding="utf-8"))
        result = replace(result, figures={**result.figures, "checkpoint/matched_share": share})
        directory.write_artefacts(_of_phase(name, result.artefacts))
        state = {"name": name, "recipe": prepared.recipe.name, "figures": result.figures, "skipped": result.skipped}
        write_json(directory.phase(name) / "phase.json", state)
    return result


def _of_phase(name: str, artefacts: list[Artefact]) -> list[Artefact]:
    """Artefacts under names that those of the last phase do not take; items are kept of that one alone."""
    if name == "fit":
        return artefacts
    shown = [artefact for artefact in artefacts if not isinstance(artefact, Items)]
    return [replace(a, name=f"{name}_{a.name}", title=f"{a.title}, phase {name}") for a in shown]


def _announce(directory: RunDirectory, name: str, prepared: Prepared, console: Console) -> None:
    """Say what is about to be trained, on what, from what, and where to."""
    recipe, data = prepared.recipe, prepared.data
    console.print(f"{recipe.name}: {data.described()} -> {_relative(directory.path)}")
    for remark in [*data.notes, *prepared.task.notes]:
        console.print(f"note: {remark}")
    if data.left_out:
        console.print(f"left out {len(data.left_out):,} {data.noun}, which phase fit is measured on")
    _announce_start(directory, name, prepared, console)
    console.print(f"attention: {attention_line(prepared.attention)}")
    table = attention_table(prepared.attention)
    title = table.title if name == "fit" else f"{table.title}, phase {name}"
    directory.write_artefacts([replace(table, name=f"{name}_attention", title=title)])
    if note := warm_up_note(prepared):
        console.print(f"note: the warm-up takes {note}")


def _announce_start(directory: RunDirectory, name: str, prepared: Prepared, console: Console) -> None:
    """Say which weights training starts from, and keep the reports of what files filled."""
    for report in prepared.load_reports:
        console.print(report.summary())
        table = report.table()
        directory.write_artefacts([replace(table, name=f"{name}_{table.name}")])
    if prepared.load_reports:
        return
    if epoch := _epochs_saved(directory, name):
        console.print(f"going on after epoch {epoch}")
    else:
        console.print("starting from random weights; model.checkpoint names a file or run to start from")


def _finished(directory: RunDirectory, name: str) -> PhaseResult | None:
    state = directory.phase(name) / "phase.json"
    if not state.exists():
        return None
    content = json.loads(state.read_text(encoding="utf-8"))
    return PhaseResult(state.parent / "checkpoints" / "best.ckpt", content["figures"], skipped=content["skipped"])


def _last_checkpoint(directory: RunDirectory, name: str) -> Path:
    return directory.phase(name) / "checkpoints" / "last.ckpt"


def _progress(directory: RunDirectory, name: str) -> tuple[int, int]:
    """Epoch, from 0, and step of a phase's last checkpoint; without one, the phase begins anew."""
    if not _last_checkpoint(directory, name).exists():
        return 0, 0
    progress = torch.load(_last_checkpoint(directory, name), weights_only=True, map_location="cpu", mmap=True)
    return progress["epoch"], progress["global_step"]


def _epochs_saved(directory: RunDirectory, name: str) -> int:
    return _progress(directory, name)[0] + 1 if _last_checkpoint(directory, name).exists() else 0


def _publish(directory: RunDirectory, name: str) -> None:
    """Let the run's own ``checkpoints/`` name the files of its last phase, also when that was interrupted."""
    target = directory.path / "checkpoints"
    target.mkdir(exist_ok=True)
    for file in ("last.ckpt", "best.ckpt"):
        source = directory.phase(name) / "checkpoints" / file
        if source.exists():
            link_or_copy(source, target / file)


def _conclude(directory: RunDirectory, result: PhaseResult, noun: str, console: Console) -> None:
    report = write_report(directory.path, result.figures)
    write_json(directory.summary, result.figures)  # last of all: it says that the run is finished
    for sample in result.skipped:
        logging.getLogger("vision_train").warning("skipped %s", sample)
    if result.skipped:
        some = "\n  ".join(result.skipped[:5])
        text = f"{len(result.skipped)} unreadable {noun} were skipped; log.txt names all:\n  {some}"
        console.print(text)
    judged = "test/" if any(key.startswith("test/") for key in result.figures) else "val/"
    headline = "  ".join(f"{key} {value:.4f}" for key, value in result.figures.items() if key.startswith(judged))
    console.print(f"{headline}\n{_relative(report)}")


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
