"""What a command finds that may be given again: nothing yet, a run to go on with, or one that is finished."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vision_train.errors import UserError
from vision_train.files import OUTPUT_MARK, read_mapping
from vision_train.processes import launched_rank
from vision_train.run.directory import LOCK, RunDirectory, is_empty, refuse_taken

AUTO_RESUME = "--auto-resume"
Found = Literal["nothing", "unfinished", "finished"]


def settle_place(run_dir: Path, command: Sequence[str]) -> Found:
    """See what lies where a command puts its run, and clear what was killed before its first checkpoint.

    All processes of one run come to the same answer, however late they start: before all of them have met, the first
    one writes neither a checkpoint nor a summary.

    Args:
        run_dir: Place of the run.
        command: What follows ``vision-train``. Other commands do not go on with the run.

    Raises:
        UserError: Something else lies there, a run of another command, or one that another process trains.
    """
    directory = RunDirectory(run_dir.absolute())
    found = _state_of(directory)
    if launched_rank() > 0:
        return found
    if directory.environment.is_file():
        _refuse_other_command(directory, command)
    elif not _is_half_made(directory):
        refuse_taken(run_dir)
    if found == "nothing" and run_dir.is_dir() and not is_empty(run_dir):
        with directory.held():
            # Another process may have trained it, and let it go, since this one looked.
            if (found := _state_of(directory)) == "nothing":
                directory.clear()
    return found


def _state_of(directory: RunDirectory) -> Found:
    if directory.summary.is_file():
        # A whole one: a machine that failed may have left a part.
        read_mapping(directory.summary, f"restore it, or delete {directory.path} to train the run anew")
        return "finished"
    return "unfinished" if any(directory.path.glob("phases/*/checkpoints/last.ckpt")) else "nothing"


def _is_half_made(directory: RunDirectory) -> bool:
    """Whether the process that made a run was killed at once."""
    made = {OUTPUT_MARK, LOCK, directory.recipe.name, directory.classes.name}
    names = {each.name for each in directory.path.iterdir()} if directory.path.is_dir() else set()
    return OUTPUT_MARK in names and all(name in made or name.endswith(".tmp") for name in names)


def _refuse_other_command(directory: RunDirectory, command: Sequence[str]) -> None:
    remedy = f"restore it, or delete {directory.path} to train the run anew"
    recorded = str(read_mapping(directory.environment, remedy).get("command", ""))
    now = ["vision-train", *_compared(command)]
    then = _compared(shlex.split(recorded))
    if _without_place(then) != _without_place(now):
        was, given = shlex.join(then) or "none", shlex.join(now)
        raise UserError(
            f"{directory.path}: holds the run of another command, and {AUTO_RESUME} goes on with that of the same one "
            f"only; name another --run-dir, or give the old command:\n  was: {was}\n  is:  {given}"
        )


def _compared(command: Sequence[str]) -> list[str]:
    return [word for word in command if word != AUTO_RESUME]


def _without_place(command: Sequence[str]) -> list[str]:
    """A command without its --run-dir, which may be written in several ways and is the same here."""
    kept = list(command)
    while "--run-dir" in kept:
        place = kept.index("--run-dir")
        del kept[place : place + 2]
    return [word for word in kept if not word.startswith("--run-dir=")]
