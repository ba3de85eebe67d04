"""The table of predictions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision_train.errors import UserError
from vision_train.files import check_writable, escape_name, write_text
from vision_train.tasks.base import Predicted


def check_outputs(out: Path, render: Path | None) -> None:
    """Find out before any work whether its results can be written.

    Raises:
        UserError: They cannot.
    """
    if out.suffix not in (".jsonl", ".csv"):
        raise UserError(f"--out {out}: ends in neither .jsonl nor .csv")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file")
    check_writable(out.parent, "--out")
    if render:
        check_writable(render, "--render")


def write_predictions(out: Path, predictions: Sequence[Predicted], key: str) -> None:
    r"""Write predictions as JSON lines or as csv, by the ending.

    Ids are written by :func:`vision_train.files.escape_name` in csv, and as JSON's own escapes say in JSON lines: in
    both a byte that is no UTF-8 is ``\udcXX``.

    Args:
        out: The file; its folder is made where it is absent.
        predictions: In the order of the rows.
        key: Name of the column of ids.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        write_text(out, _as_csv(predictions, key))
        return
    lines = ({key: predicted.id, **predicted.row} for predicted in predictions)
    write_text(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _as_csv(predictions: Sequence[Predicted], key: str) -> str:
    rows = [predicted.cells or _scalars(predicted.row) for predicted in predictions]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([key, *columns])
    for predicted, row in zip(predictions, rows, strict=True):
        writer.writerow([escape_name(predicted.id), *(_cell(row.get(column, "")) for column in columns)])
    return text.getvalue()


def _scalars(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not isinstance(value, dict | list | tuple)}


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return escape_name(value)
    return f"{value:.6f}" if isinstance(value, float) else value
