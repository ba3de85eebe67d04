"""From a recipe to a finished run directory: one or more phases, the summary, the report."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console

from vision_train.checkpoints import Weights, match_weights
from vision_train.errors import UserError
from vision_train.files import write_json
from vision_train.metrics_log import MetricsLog
from vision_train.processes import launched_rank, leave_process_group
from vision_train.recipe import Recipe, load_recipe
from vision_train.report import write_report
from vision_train.run.checkpointing import link_or_copy
from vision_train.run.directory import PASSED_ON, RunDirectory, create_run, open_run
from vision_train.run.log import logging_to
from vision_train.run.phase import HARDWARE, PhaseResult, Prepared, check_devices, fit_phase, prepare


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
    with logging_to(None):
        prepared = {name: prepare(phase) for name, phase in phases}
        for phase in prepared.values():
            check_devices(phase)
        for earlier, later in pairwise(prepared.values()):
            _check_handover(earlier, later)
    directory = create_run(recipe, prepared["fit"].data.classes, run_dir, command)
    try:
        _run_phases(directory, phases, prepared, console)
    except UserError:
        if launched_rank() == 0:
            directory.discard()
        raise
    return directory


def resume(run: Path, *, console: Console) -> RunDirectory:
    """Go on with a run that was cut short, at the start of the epoch it was in.

    Raises:
        UserError: There is no run, it is finished, or its data has got other classes.
    """
    directory = open_run(run)
    if directory.summary.exists() and launched_rank() == 0:
        raise UserError(f"{run}: is finished; start from its weights with model.checkpoint={run}")
    phases = plan_phases(load_recipe(str(directory.recipe)))
    # The label map of the start: a class folder that came, went or was renamed since must not shift the labels.
    classes = {"fit": directory.read_classes()}
    unfinished = [(name, recipe) for name, recipe in phases if not _finished(directory, name)]
    _run_phases(directory, phases, {name: prepare(recipe, classes.get(name)) for name, recipe in unfinished}, console)
    return directory


def plan_phases(recipe: Recipe) -> list[tuple[str, Recipe]]:
    """The phases of a run in order, by name: what ``run.pretrain`` names, and before it what that names, then ``fit``.

    Every phase takes the seed and the hardware of the recipe that was asked for.

    Raises:
        UserError: The recipes pre-train one another in a circle.
    """
    chain = [recipe]
    while chain[0].run.pretrain:
        earlier = load_recipe(chain[0].run.pretrain)
        if any(earlier.name == known.name for known in chain):
            raise UserError(f"run.pretrain={earlier.name}: {recipe.name} and it pre-train one another in a circle")
        hardware = {key: value for key, value in recipe.trainer.items() if key in HARDWARE}
        kept = {key: value for key, value in earlier.trainer.items() if key not in HARDWARE}
        chain.insert(0, replace(earlier, seed=recipe.seed, trainer={**kept, **hardware}))
    names = ["pretrain"] if len(chain) == 2 else [f"pretrain-{index + 1}" for index in range(len(chain) - 1)]
    return list(zip([*names, "fit"], chain, strict=True))


def _run_phases(
    directory: RunDirectory, phases: list[tuple[str, Recipe]], prepared: dict[str, Prepared], console: Console
) -> None:
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
            if result:
                start = replace(recipe.model, checkpoint=str(result.checkpoint))
                prepared[name] = prepare(replace(recipe, model=start), prepared[name].data.classes)
            if len(phases) > 1:
                console.print(f"phase {name}: {recipe.name}")
            try:
                result = _one_phase(directory, name, prepared[name], log, console)
            except KeyboardInterrupt:
                resume_with = f"vision-train fit --resume {_relative(directory.path)}"
                console.print(f"Stopped; go on with: {resume_with}")
                raise
            finally:
                if first_process and name == "fit":
                    _publish(directory, name)
        if first_process and result:
            _conclude(directory, result, console)


def _check_handover(earlier: Prepared, later: Prepared) -> None:
    """Refuse now what loading the earlier phase's weights would refuse once they are trained."""
    weights = Weights(earlier.task.network.state_dict(), Path(earlier.recipe.name), file_format="", container="")
    try:
        match_weights(
            later.task.network,
            weights,
            adapt=later.task.adapt_published,
            heads=later.task.heads,
            min_matched_share=later.recipe.model.min_matched_share,
        )
    except UserError as error:
        raise UserError(f"run.pretrain={error}") from error


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
    if log and prepared.load_report:
        console.print(prepared.load_report.summary())
        directory.write_artefacts([replace(prepared.load_report.table(), name=f"{name}_checkpoint")])
    if log and directory.phase(name).exists():
        _note_resumption(directory, name, log)
    result = fit_phase(prepared, directory.phase(name), name, log, console)
    figures = dict(result.figures)
    if prepared.load_report:
        figures["checkpoint/matched_share"] = prepared.load_report.matched_share
    result = replace(result, figures=figures)
    if log:
        if name == "fit":
            directory.write_artefacts(result.artefacts)
        state = {"name": name, "recipe": prepared.recipe.name, "figures": figures, "skipped": result.skipped}
        write_json(directory.phase(name) / "phase.json", state)
    return result


def _finished(directory: RunDirectory, name: str) -> PhaseResult | None:
    state = directory.phase(name) / "phase.json"
    if not state.exists():
        return None
    content = json.loads(state.read_text(encoding="utf-8"))
    return PhaseResult(state.parent / "checkpoints" / "best.ckpt", content["figures"], skipped=content["skipped"])


def _note_resumption(directory: RunDirectory, name: str, log: MetricsLog) -> None:
    path = directory.phase(name) / "checkpoints" / "last.ckpt"
    progress = {"epoch": 0, "global_step": 0}  # stopped before its first checkpoint, the phase begins anew
    if path.exists():
        progress = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    log.note_resumption(name, progress["epoch"], progress["global_step"])


def _publish(directory: RunDirectory, name: str) -> None:
    """Let the run's own ``checkpoints/`` name the files of its last phase, also when that was interrupted."""
    target = directory.path / "checkpoints"
    target.mkdir(exist_ok=True)
    for file in ("last.ckpt", "best.ckpt"):
        source = directory.phase(name) / "checkpoints" / file
        if source.exists():
            link_or_copy(source, target / file)


def _conclude(directory: RunDirectory, result: PhaseResult, console: Console) -> None:
    write_json(directory.summary, result.figures)
    report = write_report(directory.path)
    for image in result.skipped:
        logging.getLogger("vision_train").warning("skipped %s", image)
    if result.skipped:
        some = "\n  ".join(result.skipped[:5])
        text = f"{len(result.skipped)} unreadable images were skipped; log.txt names all:\n  {some}"
        console.print(text)
    headline = "  ".join(f"{key} {value:.4f}" for key, value in result.figures.items() if key.startswith("test/"))
    console.print(f"{headline}\n{_relative(report)}")


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
