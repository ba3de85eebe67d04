"""What a run keeps of its teacher's health: the figures of each validation, and what was wrong with them, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vision_train.artefacts import Artefact, Curve, Table
from vision_train.files import finite
from vision_train.semi.health import PoolFigures, distance_to_prior
from vision_train.semi.monitor import Judgement, Sign
from vision_train.wording import percent

PREFIX = "pool_"
"""Before the names of the artefacts, and after ``val/`` in the log."""
SHARES = {
    "accepted": "accepted share of the pool",
    "accuracy": "estimated accuracy of accepted labels",
    "agreement": "agreement of student and teacher",
    "entropy": "entropy of pseudo-labels over that of an even spread",
}
"""Figures between 0 and 1 that are drawn together, by their name in the log."""
SIGNS = f"{PREFIX}signs"
"""Name of the table of what was wrong: a row for each figure, with the message last."""
ADDED = "added"
"""Figure that says whether pseudo-labels counted from this validation on, 1 or 0."""
_SIGN_COLUMNS = ["figure", "from step", "to step", "validations", "what is wrong, and what mends it"]


class HealthLog:
    """Gathers the readings of a run.

    Args:
        classes: Names of the classes.
        figures: Type of what a monitor reads.
    """

    def __init__(self, classes: Sequence[str], figures: type[PoolFigures] = PoolFigures) -> None:
        self.classes = list(classes)
        self._type = figures
        self._figures: list[dict[str, float]] = []
        self._last: PoolFigures | None = None
        self._signs: dict[str, list[Any]] = {}
        """Figure -> first step, last step, validations, the latest message."""
        self.changes: list[str] = []
        """When pseudo-labels were no longer added, and when again, in sentences."""

    def note_signs(self, step: int, signs: Sequence[Sign]) -> None:
        """Keep what is wrong at a validation after so many steps."""
        for sign in signs:
            first, _, count, _ = self._signs.get(sign.figure, (step, step, 0, ""))
            self._signs[sign.figure] = [first, step, count + 1, sign.message]

    def note(self, step: int, figures: Mapping[str, float], pool: PoolFigures, judgement: Judgement) -> None:
        """Keep the figures of a validation, what the teacher said of the pool, and what that means."""
        self.note_signs(step, judgement.signs)
        if judgement.changed:
            self.changes.append(f"{judgement.messages[-1]} (after {step:,} steps)")
        self._figures.append({"step": float(step), **figures})
        self._last = pool

    @property
    def measured(self) -> set[str]:
        """Names of the figures that any validation has told."""
        return {name for row in self._figures for name in row} - {"step"}

    def artefacts(self, prior: Sequence[float]) -> list[Artefact]:
        """Curves of the figures, the classes at the last validation, and the signs; nothing without a reading.

        Args:
            prior: Share of each class among labelled samples; empty where nothing has a class.
        """
        if self._last is None:
            return []
        steps = [row["step"] for row in self._figures]
        drawn = {name: title for name, title in SHARES.items() if name in self.measured}
        lines = {title: [row.get(name, math.nan) for row in self._figures] for name, title in drawn.items()}
        curve = Curve(
            f"{PREFIX}health", "Health of the teacher", "optimiser step", "share", steps, lines, self._verdict()
        )
        classes = [self._classes(self._last, prior)] if prior else []
        return [curve, *classes, *self._last.tables(), *self._sign_table()]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know, in plain types."""
        last = None if self._last is None else finite(asdict(self._last))  # NaN equals nothing, not even itself
        return {"figures": self._figures, "last": last, "signs": self._signs, "changes": self.changes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            KeyError: An entry is missing.
        """
        self._figures, self._signs, self.changes = [*state["figures"]], dict(state["signs"]), [*state["changes"]]
        last = state["last"]
        self._last = None if last is None else self._type(**{name: _restored(value) for name, value in last.items()})

    def _verdict(self) -> str:
        """At how many validations pseudo-labels counted, and whether anything was wrong."""
        held, whole = sum(bool(row.get(ADDED, 1)) for row in self._figures), len(self._figures)
        told = f"Pseudo-labels were added after {held} of {whole} validations."
        return told if self._signs else f"{told} No figure was outside of what is healthy."

    def _classes(self, last: PoolFigures, prior: Sequence[float]) -> Table:
        rows: list[list[Any]] = [
            [name, prior[index], last.label_shares[index], last.accepted_shares[index], last.accepted_of_class[index]]
            for index, name in enumerate(self.classes)
        ]
        columns = ["class", "share of labelled", "share of pseudo-labels", "share of accepted", "accepted of it"]
        distance = distance_to_prior(last.label_shares, prior)
        note = ""
        if not math.isnan(distance):
            note = (
                f"{percent(distance)} of pseudo-labels would have to change class for the frequencies of labelled ones."
            )
        return Table(
            f"{PREFIX}classes", "Classes of pseudo-labels before the last validation", columns, rows, note, columns[1:]
        )

    def _sign_table(self) -> list[Table]:
        if not self._signs:
            return []
        rows = [[figure, *place] for figure, place in self._signs.items()]
        note = ". ".join(change[:1].upper() + change[1:] for change in self.changes)
        return [Table(SIGNS, "What was wrong with the pool or its teacher", _SIGN_COLUMNS, rows, note)]


def _restored(value: Any) -> Any:
    """A figure as it was before NaN became null and tuples lists."""
    if isinstance(value, list | tuple):
        return tuple(_restored(each) for each in value)
    return math.nan if value is None else value
