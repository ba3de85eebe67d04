"""A study whose runs are trained elsewhere: the command of each, and what they came to."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vision_train.errors import UserError
from vision_train.study.execution import begin_arguments
from vision_train.study.runs import Run
from vision_train.study.study import Study
from vision_train.wording import listed


@dataclass(frozen=True)
class Job:
    """A command that brings one run to its end, on any machine that sees the folder of the study at the same path."""

    number: int
    """Its line, from 1 on."""
    run: Run
    after: int | None
    """The line of the command that has to end before; None for one that can begin at once."""

    @property
    def line(self) -> str:
        """The command, with what it is as a comment of the shell."""
        command = shlex.join(["vision-train", *begin_arguments(self.run), "--auto-resume"])
        after = "" if self.after is None else f", after {self.after}"
        # A name with a line end would make a comment a command.
        return f"{command}  # {self.number}: {' '.join(self.run.name.split())}{after}"


def jobs_of(study: Study) -> list[Job]:
    """The commands of all runs that are not finished; what a run starts from stands before it.

    A run that measured nothing has none: its command would find it ended, and leave it alone.
    """
    jobs: list[Job] = []
    line_of = dict[object, int]()
    for run in study.runs():
        if not run.finished and not run.measured_nothing:
            after = None if run.start is None else line_of.get(run.start.folder)
            jobs.append(Job(len(jobs) + 1, run, after))
            line_of[run.folder] = len(jobs)
    return jobs


def remarks_on(jobs: list[Job], runs: Sequence[Run]) -> Iterator[str]:
    """What a reader of the commands has to know.

    Args:
        jobs: The commands.
        runs: All runs of the study.
    """
    for run in runs:
        if run.measured_nothing:
            yield f"{run.name}: has no command, as it {_state(run)}"
    if not jobs:
        if all(run.finished for run in runs):
            yield "every run is finished; give the command with --collect instead of --emit"
        return
    first = [job for job in jobs if job.after is None]
    order = "in any order, at once if you like"
    if len(first) < len(jobs):
        order += "; those that say `after N` once command N has ended, before which they exit with 2"
    yield f"{len(jobs)} commands, {order}. The folder of the study has to lie at the same path wherever they run"
    yield "then give the same command with --collect instead of --emit"


def refuse_missing(runs: list[Run]) -> None:
    """Name the runs that have no result.

    Raises:
        UserError: There are some.
    """
    missing = [run for run in runs if not run.finished]
    if not missing:
        return
    raise UserError(
        listed(
            f"{len(missing)} of {len(runs)} runs have no result; the tables hold the others. Give the same command "
            "with --emit for the commands of what is missing, or with neither to train it here:",
            [f"{run.name}: {_state(run)}{_place(run)}" for run in missing],
        )
    )


def _place(run: Run) -> str:
    return "" if run.measured_nothing else f" ({run.folder})"


def _state(run: Run) -> str:
    if run.measured_nothing:
        return f"measured no finite {run.metric}; delete {run.folder} to train it anew"
    if run.resumable:
        return "cut short or under way"
    return "begun, without a checkpoint yet" if run.folder.exists() else "not begun"
