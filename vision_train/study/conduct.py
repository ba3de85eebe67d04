"""A study from its plan to its tables."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console

from vision_train.data.content import CONTENTS
from vision_train.errors import UserError
from vision_train.files import check_writable
from vision_train.progress import Work, doing, format_seconds
from vision_train.report.fonts import remarks_on_glyphs
from vision_train.report.formats import in_words
from vision_train.report.measured_samples import forget_items
from vision_train.run.progress import epoch_reached
from vision_train.study import words
from vision_train.study.begun import refuse_folder
from vision_train.study.elsewhere import jobs_of, refuse_missing, remarks_on
from vision_train.study.execution import Execution, Outcome, Train
from vision_train.study.learning import forget_curves
from vision_train.study.own_runs import refuse_others
from vision_train.study.page import State
from vision_train.study.plan import Plan
from vision_train.study.processes import RunProcesses
from vision_train.study.resolved import resolve_arms
from vision_train.study.results import StudyResult, collect, forget_figures, measured_value
from vision_train.study.runs import Run
from vision_train.study.study import Study
from vision_train.study.warned import warnings_of
from vision_train.study.writing import verdicts, write_results
from vision_train.threads import processors_of_each


def conduct(
    plan: Plan,
    folder: Path,
    *,
    jobs: int,
    command: str,
    console: Console,
    train: Train | None = None,
    collected: bool = False,
) -> StudyResult:
    """Run what is not finished yet and write the tables, anew after every run.

    Args:
        plan: What to compare.
        folder: Of the study; an earlier one of the same plan goes on.
        jobs: Runs at a time.
        command: The command line, for the record.
        console: Where progress goes.
        train: Calls ``vision-train`` with a command line; by default in a process of its own.
        collected: Train nothing: read what was trained elsewhere.

    Raises:
        UserError: Arms cannot be built or compared, the folder holds something else, or runs failed or, where they are
            collected, are missing; of the others the tables are written all the same.
        KeyboardInterrupt: The user stopped it; the same command goes on.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: must be at least 1")
    with _opened(plan, folder, command) as study:
        progress = _Progress(study, jobs, command, console)
        result = progress.write() if collected else _carry_out(progress, train)
        if not collected or progress.complete:
            study.note_reading()
    said = [*verdicts(result), *words.faults(result), *words.cautions(study, result, 0, 0)]
    for line in [*said, *remarks_on_glyphs(study.titles)]:
        console.print(line)
    console.print(str(folder / "compare.html"))
    if collected:
        refuse_missing(progress.runs)
    if failures := list(progress.failures.values()):
        count = f"{len(failures)} run{'s' if len(failures) > 1 else ''}"
        raise UserError("\n  ".join([f"{count} failed; mend the cause and give the same command again", *failures]))
    return result


def emit(plan: Plan, folder: Path, *, command: str, console: Console) -> list[str]:
    """Prepare the folder of a study and give the command of each run that is not finished, for any scheduler.

    Args:
        plan: What to compare.
        folder: Of the study; an earlier one of the same plan goes on.
        command: The command line, for the record.
        console: Where remarks go.

    Returns:
        Command lines of a shell; what has to end before another one begins stands before it.

    Raises:
        UserError: Arms cannot be built or compared, or the folder holds something else.
    """
    with _opened(plan, folder, command) as study:
        jobs, runs = jobs_of(study), study.runs()
    for remark in remarks_on(jobs, runs):
        console.print(remark)
    return [job.line for job in jobs]


@contextmanager
def _opened(plan: Plan, folder: Path, command: str) -> Iterator[Study]:
    """Hold the folder of a study; what cannot be written is one message."""
    check_writable(folder, "--out")
    refuse_folder(folder.absolute(), plan)  # before arms are built, which takes long
    # A process may compare several times.
    for forget in (forget_figures, forget_curves, forget_items, warnings_of.cache_clear):
        forget()
    CONTENTS.recall(folder)
    study = Study(folder.absolute(), plan, resolve_arms(plan))
    try:
        with study.opened(command):
            CONTENTS.keep(folder)
            refuse_others(study.runs(), study.pretrained)
            yield study
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: cannot be written ({error.strerror}); what is finished is kept, and once it "
            "can be, the same command goes on"
        ) from error


def _carry_out(progress: _Progress, train: Train | None) -> StudyResult:
    processes = RunProcesses(progress.jobs)
    say, stop = progress.console.print, processes.stop
    execution = Execution(progress.runs, train or processes, progress.jobs, say, stop, progress.look)
    try:
        with progress.shown(), closing(execution.outcomes()) as outcomes:
            for outcome in outcomes:
                progress.ended(outcome)
    except KeyboardInterrupt:
        progress.console.print("Stopped; what is finished is kept. The same command goes on.")
        raise
    return progress.write()


END_OF_LOG = 4096
"""Bytes in which a line about an epoch is looked for."""


class _Progress:
    """Follows the runs: a line for each, and the tables as far as they go."""

    def __init__(self, study: Study, jobs: int, command: str, console: Console) -> None:
        self.study, self.jobs, self.command, self.console = study, jobs, command, console
        self.runs = study.runs()
        self.failures: dict[Path, str] = {}
        self._done = {run.folder for run in self.runs if run.finished}
        self._began, self._trained = time.monotonic(), 0
        self._shares: dict[Path, float] = {}
        """Folder of a run under way -> the share of it that is done."""
        self._work: Work | None = None
        if before := len(self._done):
            console.print(f"{before} of {len(self.runs)} runs are finished already")
        if jobs > 1:
            share = processors_of_each(jobs)
            console.print(f"{jobs} runs at a time, {share} processor{'s' if share > 1 else ''} each")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show how far the study is."""
        with doing("training", len(self.runs)) as self._work:
            yield

    def look(self, runs: Sequence[Run]) -> None:
        """See how far the runs under way are, by what they wrote to their logs."""
        reached = {run: epoch_reached(_end_of(run.log)) for run in runs}
        self._shares = {run.folder: epoch.share if epoch else 0.0 for run, epoch in reached.items()}
        if self._work is None or not runs:
            return
        named = [
            f"{run.name} " + (f"epoch {epoch.number}/{epoch.of}" if epoch else "starting")
            for run, epoch in reached.items()
        ]
        self._work.done = len(self._done) + sum(self._shares.values())
        self._work.left = self._seconds_left()
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        self._work.show(named[0] + more, [f"{len(self._done)}/{len(self.runs)} runs"])

    def ended(self, outcome: Outcome) -> None:
        """Note how a run ended; say so and write the tables if it was trained just now."""
        run, error = outcome.run, outcome.error
        name = f"{run.name} ({run.seed + 1} of {self.study.plan.seeds})" if run.draw.fold is None else run.name
        if error:
            self.failures[run.folder] = f"{name}: {error}"
        if not outcome.seconds and not error:
            return
        self._done.add(run.folder)
        self._shares.pop(run.folder, None)
        self._trained += 1
        said = f"failed: {error}" if error else ""
        if run.metric and not error:
            described = {metric.name: metric for metric in self.study.resolved[0][0].metrics}
            said = in_words(run.metric, measured_value(run, run.metric), described)
        parts = [name, said, format_seconds(outcome.seconds)]
        self.console.print("  ".join(filter(None, parts)) + self._time_left())
        self.write()

    @property
    def complete(self) -> bool:
        """Whether every run has its result."""
        return all(run.finished for run in self.runs)

    def write(self) -> StudyResult:
        """Write the tables from what is finished."""
        finished = sum(run.finished for run in self.runs)
        result = collect(self.study, self.failures)
        state = State(self.command, finished, len(self.runs), list(self.failures.values()))
        write_results(self.study, result, state)
        return result

    def _seconds_left(self) -> float | None:
        """As long as the rest takes at the pace of this command so far; None before anything is done."""
        under_way = sum(self._shares.values())
        trained = self._trained + under_way
        left = len(self.runs) - len(self._done) - under_way
        return (time.monotonic() - self._began) / trained * left if trained else None

    def _time_left(self) -> str:
        seconds = self._seconds_left()
        return f", about {format_seconds(seconds)} left" if seconds else ""


def _end_of(log: Path) -> str:
    """The last lines of a log."""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - END_OF_LOG, 0))
        return file.read().decode("utf-8", errors="replace")
