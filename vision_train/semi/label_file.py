"""Pseudo-labels, and the file of them: written between phases, learnt from in the next, readable as other labels are.

``data/pseudo_labels.py`` reads it.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vision_train.files import escape_name, write_text

COLUMNS = ("path", "label", "share", "voters", "kept", "round", "weight")
"""Columns of a file of labels of whole samples; those of the scores follow."""


@dataclass(frozen=True)
class PseudoLabel:
    """What was said of one sample of a pool, and whether it is learnt from."""

    id: str
    label: str
    """As the kind of data writes it in one cell; empty where nothing could be said."""
    kept: bool = True
    share: float = 1.0
    """Share of the votes that name this label."""
    votes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Label -> how many voters named it."""
    stratum: str = ""
    """What it is selected beside, such as its class; not stored."""
    scores: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    round: int = 0
    """0 for a vote."""
    weight: float = 1.0
    """How much it counts in the loss."""

    @property
    def named(self) -> set[str]:
        """The classes that it names."""
        return {self.label, *self.votes}

    def rows(self) -> list[dict[str, Any]]:
        """What the file says of the sample: cells by column, the same columns in each row of a file but for scores."""
        votes = json.dumps(dict(self.votes), ensure_ascii=False, sort_keys=True) if self.votes else ""
        own = [escape_name(self.id), self.label, repr(self.share), votes, int(self.kept), self.round, self.weight]
        return [dict(zip(COLUMNS, own, strict=True)) | {name: cell(score) for name, score in self.scores.items()}]


@dataclass(frozen=True)
class StoredLabel(PseudoLabel):
    """A label of an earlier round that stays as its file has it."""

    stored: tuple[Mapping[str, str], ...] = ()
    """Its rows."""

    def rows(self) -> list[dict[str, Any]]:
        """The rows that it came from."""
        return [dict(row) for row in self.stored]


def write_pseudo_labels(path: Path, labels: Sequence[PseudoLabel]) -> None:
    """Write the rows of each sample of the pool, also of those not learnt from; the file is there whole or not."""
    rows = [row for each in labels for row in each.rows()]
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def cell(score: float) -> str:
    """Enough digits to read the same number back; empty for what is not finite."""
    return repr(float(score)) if math.isfinite(score) else ""
