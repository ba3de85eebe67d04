"""From a recipe to a finished run directory: the phases of its plan, the summary, the report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from vision_train.data.content import CONTENTS
from vision_train.errors import UserError
from vision_train.metrics_log import MetricsLog
from vision_train.processes import gather_objects, launched_rank, leave_process_group
from vision_train.recipe import Recipe, load_recipe, write_recipe
from vision_train.recipe.installed import check_installed
from vision_train.recipe.trainer_keys import AUTO
from vision_train.run.automatic import settle_automatic
from vision_train.run.checked import (
    CheckedPhases,
    check_beginning,
    check_overlaps,
    check_phases,
    drawn,
    keep_phases_apart,
)
from vision_train.run.conclusion import conclude, own_phases
from vision_train.run.delivery import delivered
from vision_train.run.directory import PASSED_ON, RUNS, RunDirectory, create_run, open_unfinished, relative
from vision_train.run.labelling import label_pool
from vision_train.run.last_checkpoint import last_checkpoint
from vision_train.run.leakage import check_overlap, clear_pool, keep_apart
from vision_train.run.log import logging_to
from vision_train.run.parts import Parts, drop_weights
from vision_train.run.phase import Prepared, Scanned, prepare, scan
from vision_train.run.plan import (
    LAST,
    FinishedPhase,
    MakePlan,
    Phase,
    Plan,
    read_finished,
    stored_recipes,
)
from vision_train.run.reinitialisation import begin_anew
from vision_train.run.requeue import queued_again
from vision_train.run.resumption import check_accepted, check_fits, compare_with_checkpoint, started_from
from vision_train.run.run_phase import publish, run_phase, saying_how_to_go_on
from vision_train.run.trainer import check_devices, settle_precision, settle_threads
from vision_train.run.verdict import plan_run
from vision_train.threads import processors

if TYPE_CHECKING:
    from vision_train.run.trackers import Trackers


def fit(
    recipe: Recipe, *, run_dir: Path | None, command: list[str], console: Console, make_plan: MakePlan = plan_run
) -> RunDirectory:
    """Run a recipe from the start.

    Everything that can fail on the user's input is tried before the run directory is made.

    Args:
        recipe: The resolved recipe.
        run_dir: Where to put the run; None numbers a new one under ``runs/``.
        command: The command line, for the record.
        console: Where progress goes.
        make_plan: Makes the plan of phases.

    Raises:
        UserError: The recipe, data, checkpoint or devices do not fit together, or the place is taken.
    """
    asked = recipe.trainer.get("precision")
    recipe, precision = settle_precision(recipe)
    threads = settle_threads(recipe)
    for phase in make_plan(recipe, {}).known():
        check_installed(phase.recipe)
    beside = run_dir.parent if run_dir else RUNS
    CONTENTS.recall(beside)
    found = settle_automatic(recipe)
    recipe, plan = found.recipe, make_plan(found.recipe, {})
    checked = check_phases(plan)
    result = checked.scanned[plan.known()[-1].name]
    settled = {name: getattr(result.recipe, name) for name in ("data", "augment", "model")}
    # The last phase may train a part of what was asked for.
    whole = replace(recipe, **settled)
    with create_run(whole, result.data.classes, run_dir, command, threads, precision) as directory:
        if launched_rank() == 0:
            if asked == AUTO:
                console.print(f"trainer.precision={precision.name}: {precision.because}")
            CONTENTS.keep(beside)
            for name, scanned in checked.scanned.items():
                directory.phase(name).mkdir(parents=True)
                write_recipe(directory.phase(name) / "recipe.yaml", scanned.recipe)
            for remark in [*found.notes, *recipe.semi.notes]:
                console.print(f"note: {remark}")
            directory.write_artefacts(found.artefacts)
        try:
            _run_plan(directory, plan, checked, console)
        except UserError:
            if launched_rank() == 0:
                directory.discard()
            raise
    return directory


def resume(run: Path, *, console: Console, accept: Sequence[str] = (), make_plan: MakePlan = plan_run) -> RunDirectory:
    """Go on with a run that was cut short, at the start of the epoch it was in.

    Args:
        run: The run directory.
        console: Where progress goes.
        accept: Keys, or sections of keys, that may have changed since the last checkpoint.
        make_plan: Makes the plan of phases, as when the run started.

    Raises:
        UserError: There is no run, it is finished, its data has got other classes or copies of training samples among
            those of the test, its recipe, data or versions have changed in a way that is not accepted, or a key that is
            accepted does not exist.
    """
    directory = open_unfinished(run)
    CONTENTS.recall(run.absolute().parent)
    check_accepted(accept)
    recipe = load_recipe(directory.recipe, runnable=False)
    plan = make_plan(recipe, stored_recipes(directory))
    _go_on_with_threads(directory, recipe, console)
    phases = [phase for phase in plan.known() if not read_finished(directory, phase.name)]
    for phase in phases:
        check_installed(phase.recipe)
    with logging_to(None):
        scanned = {phase.name: _scan_again(directory, phase) for phase in phases}
        keep_phases_apart(phases, scanned)
        check_overlaps(scanned.values())
    with directory.held() if launched_rank() == 0 else nullcontext():
        _run_plan(directory, plan, CheckedPhases(scanned, accepted=accept), console)
    return directory


def _go_on_with_threads(directory: RunDirectory, recipe: Recipe, console: Console) -> None:
    """Compute with as many threads as the run was begun with: with others its last bits would differ."""
    threads, granted = settle_threads(recipe, directory.recorded_threads()), processors()
    if threads.count > granted.count and launched_rank() == 0:
        console.print(
            f"note: {threads.count} threads, by {threads.because}; here are {granted.count} processors "
            f"({granted.because}). run.threads in {relative(directory.recipe)} changes that"
        )


def _scan_again(directory: RunDirectory, phase: Phase, classes: list[str] | None = None) -> Scanned:
    """Scan the data of a phase of a run that exists already; its recipe has been settled if it was known then.

    Args:
        directory: The run.
        phase: The phase.
        classes: The label map, where this process knows it; None reads that of the run.
    """
    recipe, stored = phase.recipe, directory.phase(phase.start or "") / "recipe.yaml"
    if last_checkpoint(directory, phase.name).exists():
        # It went on from a file that may be gone.
        recipe = _with_start(recipe, None)
    earlier = load_recipe(stored, runnable=False) if phase.start and stored.is_file() else None
    # A label map may be known and empty.
    known = _kept_classes(directory, phase) if classes is None else classes
    scanned = drawn(phase, scan(recipe, known, earlier=earlier))
    return Scanned(_with_start(scanned.recipe, phase.recipe.model.checkpoint), scanned.data)


def _kept_classes(directory: RunDirectory, phase: Phase) -> list[str] | None:
    """The label map of the start: a class folder that came, went or was renamed since must not shift the labels."""
    return directory.read_classes() if phase.is_result else None


def _run_plan(directory: RunDirectory, plan: Plan, checked: CheckedPhases, console: Console) -> None:
    """Train what the plan asks for, phase after phase, and conclude the run, which the first process holds."""
    first_process = launched_rank() == 0
    console = console if first_process else Console(quiet=True)
    finished: list[FinishedPhase] = []
    said = logging_to(directory.path / "log.txt" if first_process else None)
    with _process_group(), said, queued_again(console), _trackers(directory, console) as trackers:
        log = MetricsLog(directory.metrics, directory.seconds_so_far(), trackers) if first_process else None
        while (phase := plan.next(finished)) is not None:
            if first_process:
                drop_weights(directory, finished, phase.part)
            done = read_finished(directory, phase.name)
            if done is None:
                before = finished[-1].name if finished else None
                with saying_how_to_go_on(directory, phase.name, before, console):
                    _train(directory, plan, phase, finished, checked, log, console)
                # All processes have to ask the plan the same question, and so has a resumed run: that of the files.
                done = gather_objects(read_finished(directory, phase.name) if first_process else None)[0]
                assert done is not None, "a phase that ended has left its figures"
            finished.append(done)
            if first_process and phase.is_result and not phase.part:
                # Parts may train for hours yet, and the run's own weights are those that it will end with.
                publish(directory, delivered(own_phases(finished), phase.recipe.run.select).name)
        if first_process:
            drop_weights(directory, finished, "")
            figures = conclude(directory, finished, plan.shared if isinstance(plan, Parts) else (), console)
            if trackers:
                trackers.close(figures)
        gather_objects(None)  # all processes go on with a finished run


@contextmanager
def _trackers(directory: RunDirectory, console: Console) -> Iterator[Trackers | None]:
    """The trackers that the recipe asks for, on the first process; they end with the run, however that ends."""
    recipe = load_recipe(directory.recipe, runnable=False) if launched_rank() == 0 else None
    if recipe is None or not recipe.run.trackers:
        yield None
        return
    from vision_train.run.trackers import Trackers  # and Lightning's loggers

    trackers = Trackers(directory, recipe)
    for place in trackers.places:
        console.print(f"tracker {place}")
    try:
        yield trackers
    finally:
        trackers.close()


def _train(
    directory: RunDirectory,
    plan: Plan,
    phase: Phase,
    finished: list[FinishedPhase],
    checked: CheckedPhases,
    log: MetricsLog | None,
    console: Console,
) -> None:
    """Train a phase, once it has its labels and is built."""
    if phase.labels is not None:
        phase = _with_labels(directory, plan, phase, finished, checked, console)
    prepared = _prepare(directory, plan, phase, finished, checked)
    if finished or phase.name != LAST:
        console.print(phase.title or f"phase {phase.name}: {phase.recipe.name}")
    try:
        run_phase(directory, phase, prepared, finished, log, console)
    finally:
        if launched_rank() == 0 and phase.is_result and not phase.part:
            publish(directory, phase.name)


def _with_labels(
    directory: RunDirectory,
    plan: Plan,
    phase: Phase,
    finished: list[FinishedPhase],
    checked: CheckedPhases,
    console: Console,
) -> Phase:
    """A phase whose recipe names the labels that the pool has for it, which are made where they are not there yet."""
    before = checked.scanned.pop(phase.name, None)  # without those labels
    # Processes that a launcher started together come here before the first one has written the label map.
    classes = before.data.classes if before and phase.is_result else None
    file = label_pool(directory, phase, lambda: _scan_late(directory, plan, phase, checked, classes), finished, console)
    data = replace(phase.recipe.data, pseudo_labels=str(file))
    return replace(phase, recipe=replace(phase.recipe, data=data))


def _prepare(
    directory: RunDirectory, plan: Plan, phase: Phase, finished: list[FinishedPhase], checked: CheckedPhases
) -> Prepared:
    """Build a phase when its turn comes; the first one of a new run is there already."""
    if phase.name in checked.ready:
        return checked.ready.pop(phase.name)
    scanned = checked.scanned.get(phase.name) or _scan_late(directory, plan, phase, checked)
    model = scanned.recipe.model
    if last_checkpoint(directory, phase.name).exists():
        return _prepare_to_go_on(directory, phase, scanned, checked.accepted)
    if phase.start is not None:
        start = next(done for done in finished if done.name == phase.start)
        model = replace(model, checkpoint=str(start.checkpoint), checkpoint_key=None)
    prepared = prepare(Scanned(replace(scanned.recipe, model=model), scanned.data))
    if phase.reinitialise is not None:
        begin_anew(prepared, scanned.recipe, phase.reinitialise, finished)
    check_beginning(prepared)
    check_devices(prepared.recipe, prepared.data, prepared.task)
    return prepared


def _prepare_to_go_on(directory: RunDirectory, phase: Phase, scanned: Scanned, accepted: Sequence[str]) -> Prepared:
    """Build a phase that goes on with its last checkpoint, once that is known to be of the same recipe and data."""
    differences = compare_with_checkpoint(directory, phase, scanned, accepted)
    # The checkpoint holds the weights that the phase began with; the file that they came from may be gone.
    prepared = prepare(Scanned(_with_start(scanned.recipe, None), scanned.data))
    check_fits(directory, phase, prepared)
    check_devices(prepared.recipe, prepared.data, prepared.task)
    known = _with_start(prepared.recipe, started_from(directory, phase))
    return replace(prepared, recipe=known, resumed_with=differences)


def _with_start(recipe: Recipe, checkpoint: str | dict[str, str] | None) -> Recipe:
    return replace(recipe, model=replace(recipe.model, checkpoint=checkpoint))


def _scan_late(
    directory: RunDirectory, plan: Plan, phase: Phase, checked: CheckedPhases, classes: list[str] | None = None
) -> Scanned:
    """Scan the data of a phase that was not known before the first step, or that is resumed."""
    scanned = _scan_again(directory, phase, classes)
    clear_pool(scanned.data)
    if not phase.is_result:
        result = plan.known()[-1]
        if result.name not in checked.scanned:
            checked.scanned[result.name] = _scan_again(directory, result)
        keep_apart(scanned.data, checked.scanned[result.name].data)
    check_overlap(scanned.data)  # in all processes: one that stopped alone would leave the others waiting
    return scanned


@contextmanager
def _process_group() -> Iterator[None]:
    """Leave nothing behind in this process that a later run in it would stumble over."""
    try:
        yield
    finally:
        leave_process_group()
        os.environ.pop(PASSED_ON, None)
