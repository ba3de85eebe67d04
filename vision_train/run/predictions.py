"""What a run predicts, written down as one table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_train.errors import UserError
from vision_train.files import check_writable, write_text


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image or bag, likeliest first, with their probabilities."""

    name: str
    """Path of the image, or id of the bag."""
    top: list[tuple[str, float]]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.top[0][0]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return self.top[0][1]


def check_outputs(out: Path, render: Path | None) -> None:
    """Find out before any work whether its results can be written.

    Raises:
        UserError: They cannot.
    """
    if out.suffix not in (".jsonl", ".csv"):
        raise UserError(f"--out {out}: ends in neither .jsonl nor .csv")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file")
    for folder in [out.parent, *([render] if render else [])]:
        check_writable(folder)


def write_predictions(out: Path, predictions: Sequence[Prediction], key: str, classes: Sequence[str] = ()) -> None:
    """Write predictions as JSON lines or as csv, by the ending.

    Args:
        out: The file; its folder is made where it is absent.
        predictions: In the order of the rows.
        key: What the names are called: ``path`` or ``slide_id``.
        classes: In csv, those whose probabilities have a column each.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([key, "label", "confidence", *classes])
        for entry in predictions:
            shares = [dict(entry.top)[name] for name in classes]
            writer.writerow([entry.name, entry.label, *(f"{share:.6f}" for share in (entry.confidence, *shares))])
        write_text(out, text.getvalue())
        return
    lines = (
        {key: entry.name, "label": entry.label, "confidence": entry.confidence, "top": dict(entry.top)}
        for entry in predictions
    )
    write_text(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
