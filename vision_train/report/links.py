"""Where a report leads: the files of its run, and the run that it started from. Addresses are relative to the page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from vision_train.report.record import RunRecord

REPORT = "report.html"
LATER = "summary.json"
"""Written right after the report, since it says that the run is finished."""


@dataclass(frozen=True)
class Link:
    """Words and where they lead; nowhere if there is no address."""

    text: str
    href: str = ""


def files_of(record: RunRecord) -> list[Link]:
    """The files and folders of a run directory, and its checkpoints; hidden ones and the page itself left out."""
    folder = record.directory
    found = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")} - {REPORT}
    if record.summary:
        found |= {LATER}
    names = [f"{name}/" if (folder / name).is_dir() else name for name in sorted(found)]
    names += [f"checkpoints/{file.name}" for file in sorted((folder / "checkpoints").glob("*.ckpt"))]
    return [Link(name, quote(name)) for name in names]


def started_from(record: RunRecord) -> list[Link]:
    """What training started from: a file, or a run, whose report is led to; of several parts each."""
    model = record.recipe.get("model")
    start = model.get("checkpoint") if isinstance(model, dict) else None
    if isinstance(start, dict):
        return [_link(record.directory, str(place), f"{part}: ") for part, place in start.items() if place]
    return [_link(record.directory, str(start))] if start else []


def _link(page: Path, place: str, before: str = "") -> Link:
    path = Path(place)
    run = next((each for each in (path, *path.parents) if (each / REPORT).is_file()), None)
    goal = path if run is None else run / REPORT
    if not goal.exists():  # a name of published weights, or something that is gone
        return Link(f"{before}{place}")
    shown = goal.parent if run is not None else goal
    return Link(f"{before}{shown}", quote(Path(os.path.relpath(goal, page)).as_posix()))
