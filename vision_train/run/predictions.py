"""What a run predicts, written down: one table, and names for the files of pictures."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_train.errors import UserError
from vision_train.files import check_writable, write_text

LONGEST_NAME = 200
"""Bytes of a name that is made of an id or a path; file systems take 255, and writing needs some more for a moment."""


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


def as_file_name(text: str) -> str:
    """Text as one name in any folder, without what some file systems refuse; of a long one, the end."""
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*]+', "-", text)
    return name.encode("utf-8", "replace")[-LONGEST_NAME:].decode("utf-8", "ignore")


def names_apart(ids: Iterable[str], endings: Sequence[str]) -> dict[str, str]:
    """Give each id a name of its own, such that no file of one is another's, even where case does not count.

    Args:
        ids: Each once.
        endings: Of the files of each id; every one is added to its name.

    Returns:
        The id itself where it can be, else what :func:`as_file_name` makes of it, with a number where that is taken.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for each in ids:
        numbered = (f" ({number})" if number > 1 else "" for number in itertools.count(1))
        for name in (as_file_name(each) + number for number in numbered):
            files = {f"{name}{ending}".casefold() for ending in endings}
            if taken.isdisjoint(files):
                break
        names[each] = name
        taken |= files
    return names
