"""``metrics.jsonl``: one JSON object a line, only ever appended to.

A run that was cut short and resumed repeats the steps after its last checkpoint. Nothing is rewritten for that: the
log notes where it went on, and reading drops what was repeated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vision_train.files import finite


def part_of(phase: str) -> str:
    """The part of a run that a phase belongs to, by its name ``PART.PHASE``; empty for phases of the run itself."""
    return phase.rpartition(".")[0]


class Listener(Protocol):
    """Gets what a log gets, and the artefacts that go with it."""

    def begin(self, phase: str, step: int) -> None:
        """A phase goes on after so many steps; what was told beyond them is repeated."""

    def metrics(self, phase: str, epoch: int, step: int, values: Mapping[str, Any]) -> None:
        """A line was appended."""

    def artefacts(self, phase: str, step: int, artefacts: Sequence[Any]) -> None:
        """A phase has left artefacts for the report."""


class MetricsLog:
    """Appends lines; opened for each line, so that a killed run loses none.

    Args:
        path: The file; made with its first line.
        seconds_before: Wall-clock seconds that the run had taken before this process.
        listener: Is told each line that was appended.
    """

    def __init__(self, path: Path, seconds_before: float = 0.0, listener: Listener | None = None) -> None:
        self.path, self.listener = path, listener
        self._began = time.monotonic() - seconds_before

    def append(self, phase: str, epoch: int, step: int, values: dict[str, Any]) -> None:
        """Append one line.

        Args:
            phase: Name of the training phase.
            epoch: Epoch, from 0.
            step: Optimiser steps taken in this phase.
            values: What was measured; values that are not finite are written as null.
        """
        self._write(phase, epoch, step, values)
        if self.listener:
            self.listener.metrics(phase, epoch, step, values)

    def _write(self, phase: str, epoch: int, step: int, values: dict[str, Any]) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        line = {"phase": phase, "epoch": epoch, "step": step, "time": seconds, **finite(values)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def note_resumption(self, phase: str, epoch: int, step: int) -> None:
        """Say that the phase goes on from this step; later lines replace earlier ones beyond it."""
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n")  # or this note would be lost with the line that was cut off
        self._write(phase, epoch, step, {"resumed": True})
        if self.listener:
            self.listener.begin(phase, step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines that stand, in order; a last line cut off in the writing is left out.

    Args:
        path: A ``metrics.jsonl``; an absent file has no lines.
    """
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # a process killed while it wrote
        if line.pop("resumed", False):
            lines = [old for old in lines if old["phase"] != line["phase"] or old["step"] <= line["step"]]
        else:
            lines.append(line)
    return lines
