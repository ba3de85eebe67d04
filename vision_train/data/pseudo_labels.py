"""Reading the file of pseudo-labels that a run has written between its phases."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.files import printable, unescape_name
from vision_train.semi.label_file import COLUMNS, PseudoLabel

REMEDY = "remove it and resume the run that wrote it, or set data.pseudo_labels=null"
"""What to do about a file that cannot be used."""


def read_pseudo_labels(path: Path) -> list[PseudoLabel]:
    """Read what :func:`vision_train.semi.label_file.write_pseudo_labels` wrote, or a table of ``path,label`` alone.

    Returns:
        Those that are kept, in the order of the file.

    Raises:
        UserError: The file is absent or no such table; the message names the line.
    """
    if not path.is_file():
        raise UserError(f"data.pseudo_labels {path}: no such file; {REMEDY}")
    table = read_table(path)
    scores = [name for name in table.columns if name and name not in COLUMNS]
    found: dict[str, PseudoLabel] = {}
    for line, row in table.rows_with("path", "label", filled=False):
        try:
            label = _label_of(row, scores)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"data.pseudo_labels {path} line {line}: {error}; {REMEDY}") from error
        if label.id in found:
            raise UserError(f"data.pseudo_labels {path} line {line}: {printable(label.id)} is listed twice; {REMEDY}")
        found[label.id] = label
    return [each for each in found.values() if each.kept]


def _label_of(row: Mapping[str, str], scores: Sequence[str]) -> PseudoLabel:
    votes = {str(name): int(count) for name, count in json.loads(row.get("voters") or "{}").items()}
    share, weight = float(row.get("share") or 1), float(row.get("weight") or 1)
    if not (0 <= share <= 1 and 0 <= weight < math.inf):
        raise ValueError(f"a share of {share} or a weight of {weight} is out of range")
    return PseudoLabel(
        id=unescape_name(row["path"]),
        label=row["label"],
        kept=(row.get("kept") or "1") != "0",
        share=share,
        votes=votes,
        scores={name: float(row[name] or "nan") for name in scores},
        round=int(row.get("round") or 0),
        weight=weight,
    )
