"""The file of predictions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision_train.data.kind import ResultsFile
from vision_train.errors import UserError
from vision_train.files import check_writable, escape_name, write_text
from vision_train.tasks.predicted import CsvRows, Predicted
from vision_train.wording import count_of

ENDINGS = (".jsonl", ".csv")
"""Of tables, which all tasks write."""
RESULTS = ".json"
"""Of one json in the format of the field, which some kinds of data have."""


def check_outputs(out: Path | None, render: Path | None, endings: Sequence[str] = ENDINGS) -> None:
    """Find out before any work whether its results can be written.

    Raises:
        UserError: They cannot.
    """
    if out is not None:
        if out.suffix not in endings:
            raise UserError(f"--out {out}: ends in neither {' nor '.join(endings)}")
        if out.is_dir():
            raise UserError(f"--out {out}: is a folder; name a file")
        check_writable(out.parent, "--out")
    if render:
        check_writable(render, "--render")


def write_predictions(
    out: Path, predictions: Sequence[Predicted], key: str, noun: str = "samples", results: ResultsFile | None = None
) -> str:
    r"""Write predictions as JSON lines, as csv or as one json, by the ending.

    Ids are written by :func:`vision_train.files.escape_name` in csv, and as JSON's own escapes say in JSON lines: in
    both a byte that is no UTF-8 is ``\udcXX``.

    Args:
        out: The file; its folder is made where it is absent.
        predictions: In the order of the rows.
        key: Name of the column of ids.
        noun: What the samples are, in the plural.
        results: Makes the one json.

    Returns:
        What was written, in words.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if results is not None:
        document = results.document([(predicted.id, predicted.results) for predicted in predictions])
        write_text(out, json.dumps(document))
        return f"{count_of(len(document), 'results')} of {count_of(len(predictions), noun)}"
    if out.suffix == ".csv":
        rows = [row for predicted in predictions for row in _rows(predicted)]
        write_text(out, _as_csv(rows, _columns(predictions), key))
        several = any(isinstance(predicted.cells, CsvRows) for predicted in predictions)
        rows_of = f"{count_of(len(rows), 'rows')} of {count_of(len(predictions), noun)}"
        return rows_of if several else _counted(predictions)
    lines = ({key: predicted.id, **predicted.row} for predicted in predictions)
    write_text(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return _counted(predictions)


def _counted(predictions: Sequence[Predicted]) -> str:
    return count_of(len(predictions), "predictions")


def _columns(predictions: Sequence[Predicted]) -> list[str]:
    """Every column that one of the predictions has, without that of the ids."""
    names = (
        predicted.cells.columns if isinstance(predicted.cells, CsvRows) else predicted.cells or _scalars(predicted.row)
        for predicted in predictions
    )
    return list(dict.fromkeys(column for each in names for column in each))


def _rows(predicted: Predicted) -> list[tuple[str, dict[str, Any]]]:
    """Id and values of each row of one sample."""
    if isinstance(predicted.cells, CsvRows):
        columns = predicted.cells.columns
        return [(predicted.id, dict(zip(columns, row, strict=True))) for row in predicted.cells.rows]
    return [(predicted.id, predicted.cells or _scalars(predicted.row))]


def _as_csv(rows: Sequence[tuple[str, dict[str, Any]]], columns: Sequence[str], key: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([key, *columns])
    for identity, row in rows:
        writer.writerow([escape_name(identity), *(_cell(row.get(column, "")) for column in columns)])
    return text.getvalue()


def _scalars(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not isinstance(value, dict | list | tuple)}


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return escape_name(value)
    return f"{value:.6f}" if isinstance(value, float) else value
