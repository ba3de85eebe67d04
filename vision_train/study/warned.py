"""What the runs of a study warned of, told once for each arm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from vision_train.metrics_log import part_of
from vision_train.run.directory import RunDirectory
from vision_train.run.plan import read_finished
from vision_train.study.results import CellResult, StudyResult
from vision_train.study.runs import Run, chain

NUMBER = re.compile(r"\d[\d.,]*")
"""What differs between the same warnings of two runs."""


def warned(result: StudyResult) -> list[str]:
    """The warnings that finished runs left, in sentences.

    Warnings that differ in their numbers alone, as those of two seeds do, are told once, with the numbers of the first
    run; an arm of several cells stands once for all of them.

    Returns:
        One sentence for each warning, with the arms whose runs warned and how many of their runs did.
    """
    told: dict[str, list[str]] = {}
    for name, runs in _runs(result.cells).items():
        of_runs = [warnings_of(run.folder) for run in runs]
        first: dict[str, str] = {}
        for text in (text for warnings in of_runs for text in warnings):
            first.setdefault(_kind(text), text)
        for kind, text in first.items():
            warning = sum(any(_kind(each) == kind for each in warnings) for warnings in of_runs)
            told.setdefault(text, []).append(f"{name} ({warning} of {len(runs)} runs)")
    return [f"Warning of {' and '.join(arms)}: {text}." for text, arms in told.items()]


@cache
def warnings_of(folder: Path) -> tuple[str, ...]:
    """What a finished run warned of in its own phases; a run of an earlier version may have kept nothing."""
    directory = RunDirectory(folder)
    names = sorted(file.parent.name for file in folder.glob("phases/*/phase.json"))
    phases = [read_finished(directory, name) for name in names if not part_of(name)]
    return tuple(dict.fromkeys(text for phase in phases if phase for text in phase.warnings))


def _runs(cells: Sequence[CellResult]) -> dict[str, list[Run]]:
    """The finished runs of each arm, and of what pre-trains for it."""
    runs: dict[str, dict[Path, Run]] = {}
    for name, run in _named(cells):
        runs.setdefault(name, {}).setdefault(run.folder, run)
    return {name: [*of_name.values()] for name, of_name in runs.items()}


def _named(cells: Sequence[CellResult]) -> Iterator[tuple[str, Run]]:
    for cell in cells:
        for arm in cell.arms:
            for last in arm.runs.values():
                *before, own = chain(last)
                yield from ((run.title, run) for run in before)
                yield arm.name, own


def _kind(text: str) -> str:
    return NUMBER.sub("0", text)
