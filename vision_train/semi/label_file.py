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

from vision_train.files import escape_name, write_text

COLUMNS = ("path", "label", "share", "voters", "kept", "round", "weight")
"""Columns of every such file; those of the scores follow."""


@dataclass(frozen=True)
class PseudoLabel:
    """What was said of one sample of a pool, and whether it is learnt from."""

    id: str
    label: str
    """As the kind of data writes it in one cell; empty where nothing could be said."""
    kept: bool = True
    share: float = 1.0
    """Of the votes, for this label."""
    votes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Label -> how many voters named it."""
    stratum: str = ""
    """What it is selected beside, such as its class; not stored."""
    scores: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    round: int = 0
    """0 for a vote."""
    weight: float = 1.0
    """How much it counts in the loss."""


def write_pseudo_labels(path: Path, labels: Sequence[PseudoLabel]) -> None:
    """Write a row for each sample of the pool, also those that are not learnt from; the file is there whole or not."""
    scores = list(dict.fromkeys(name for each in labels for name in each.scores))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *scores])
    for each in labels:
        votes = json.dumps(dict(each.votes), ensure_ascii=False, sort_keys=True) if each.votes else ""
        shown = [escape_name(each.id), each.label, repr(each.share), votes, int(each.kept), each.round, each.weight]
        writer.writerow([*shown, *(_cell(each.scores.get(name, math.nan)) for name in scores)])
    write_text(path, text.getvalue())


def _cell(score: float) -> str:
    """Enough digits to read the same number back; empty for what is not finite."""
    return repr(float(score)) if math.isfinite(score) else ""
