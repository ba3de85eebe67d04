"""Files of predictions, written as the predictions come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

from vision_train.data.kind import ResultsFile
from vision_train.errors import UserError
from vision_train.files import check_writable, escape_name, written_whole
from vision_train.tasks.predicted import CsvRows, Predicted
from vision_train.wording import count_of

ENDINGS = (".jsonl", ".csv")
"""Of tables, which all tasks write."""
RESULTS = ".json"
"""Of one json in the format of the field, which some kinds of data have."""
FORCE = "name another place, or give --force to write over it"


class PredictionWriter(Protocol):
    """Takes predictions one by one."""

    def add(self, predicted: Predicted) -> None:
        """Write one."""

    def finish(self) -> None:
        """Write what stands behind the last one."""

    def counted(self, noun: str) -> str:
        """What was written, in words."""


def check_outputs(
    out: Path | None, render: Path | None, endings: Sequence[str] = ENDINGS, *, force: bool = False
) -> None:
    """Find out before any work whether its results can be written.

    Args:
        out: The table; None for none.
        render: Folder of pictures; None for none.
        endings: Those that the table may have.
        force: Whether what is there already may be written over.

    Raises:
        UserError: They cannot, or something is there already.
    """
    if out is not None:
        if out.suffix not in endings:
            raise UserError(f"--out {out}: ends in neither {' nor '.join(endings)}")
        if out.is_dir():
            raise UserError(f"--out {out}: is a folder; name a file")
        check_writable(out.parent, "--out")
        if out.exists() and not force:
            raise UserError(f"--out {out}: exists; {FORCE}")
    if render:
        check_writable(render, "--render")
        if not force and render.is_dir() and any(render.iterdir()):
            raise UserError(f"--render {render}: exists and is not empty; {FORCE}")


@contextmanager
def open_predictions(out: Path, key: str, results: ResultsFile | None = None) -> Iterator[PredictionWriter]:
    r"""A file that takes predictions as JSON lines, as csv or as one json, by its ending.

    What is written lies on the disk at once, beside the file, and takes its name once all is there. Ids are written by
    :func:`vision_train.files.escape_name` in csv, and as JSON's own escapes say in JSON lines: in both a byte that is
    no UTF-8 is ``\udcXX``.

    Args:
        out: The file; its folder is made where it is absent.
        key: Name of the column of ids.
        results: Makes the one json.
    """
    with folder_for(out), written_whole(out) as temporary:
        with _open(temporary, "w") as file:
            writer: PredictionWriter
            if results is not None:
                writer = _Results(file, results)
            elif out.suffix == ".csv":
                writer = _Csv(file, key)
            else:
                writer = JsonLines(file, key)
            yield writer
            writer.finish()
        if isinstance(writer, _Csv) and writer.grown:
            writer.widen(temporary)


@contextmanager
def folder_for(file: Path) -> Iterator[None]:
    """Make the folder of a file, and remove what was made of it if the file comes to nothing."""
    made = [folder for folder in file.parents if not folder.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # something else has come to lie in it
                folder.rmdir()
        raise


def _open(path: Path, mode: str) -> TextIO:
    file: Any = path.open(mode, encoding="utf-8", errors="backslashreplace", newline="")
    return file


class JsonLines:
    """One JSON object a line.

    Args:
        file: Takes the lines.
        key: Name of the key of ids.
        ascii_only: Write other characters as JSON's escapes, for streams that may lack them.
    """

    def __init__(self, file: TextIO, key: str, *, ascii_only: bool = False) -> None:
        self._file, self._key, self._ascii = file, key, ascii_only
        self._count = 0

    def add(self, predicted: Predicted) -> None:
        """Write one line."""
        line = {self._key: predicted.id, **predicted.row}
        self._file.write(json.dumps(line, ensure_ascii=self._ascii) + "\n")
        self._file.flush()
        self._count += 1

    def finish(self) -> None:
        """Nothing stands behind the last line."""

    def counted(self, noun: str) -> str:
        """How many there are."""
        return count_of(self._count, "predictions")


class _Csv:
    """A heading and rows; a sample has one, or any number of them."""

    def __init__(self, file: TextIO, key: str) -> None:
        self._file, self._key = file, key
        self._writer = csv.writer(file, lineterminator="\n")
        self._columns: dict[str, None] = {}
        self._heading = 0
        """Columns of the heading as written; 0 before it is."""
        self._samples = self._rows = 0
        self._several = False

    def add(self, predicted: Predicted) -> None:
        """Write the rows of a sample."""
        columns, rows = _rows(predicted)
        self._columns |= dict.fromkeys(columns)
        self._head()
        for row in rows:
            cells = (_cell(row.get(column, "")) for column in self._columns)
            self._writer.writerow([escape_name(predicted.id), *cells])
        self._file.flush()
        self._samples += 1
        self._rows += len(rows)
        self._several |= isinstance(predicted.cells, CsvRows)

    def _head(self) -> None:
        if not self._heading:
            self._writer.writerow([self._key, *self._columns])
            self._heading = 1 + len(self._columns)

    def finish(self) -> None:
        """Leave the heading where there is no row."""
        self._head()

    def counted(self, noun: str) -> str:
        """How many there are."""
        if self._several:
            return f"{count_of(self._rows, 'rows')} of {count_of(self._samples, noun)}"
        return count_of(self._samples, "predictions")

    @property
    def grown(self) -> bool:
        """Whether later samples brought columns that the heading lacks."""
        return self._heading < 1 + len(self._columns)

    def widen(self, path: Path) -> None:
        """Copy the file, row by row, with all columns in each."""
        with written_whole(path) as wide, _open(path, "r") as narrow, _open(wide, "w") as file:
            rows, writer = csv.reader(narrow), csv.writer(file, lineterminator="\n")
            next(rows)
            writer.writerow([self._key, *self._columns])
            for row in rows:
                writer.writerow([*row, *[""] * (1 + len(self._columns) - len(row))])


class _Results:
    """One JSON list, in the format of the field."""

    def __init__(self, file: TextIO, results: ResultsFile) -> None:
        self._file, self._results = file, results
        self._entries = self._samples = 0
        file.write("[")

    def add(self, predicted: Predicted) -> None:
        """Write the entries of a sample."""
        for entry in self._results.entries(predicted.id, predicted.results):
            self._file.write((", " if self._entries else "") + json.dumps(entry))
            self._entries += 1
        self._file.flush()
        self._samples += 1

    def finish(self) -> None:
        """Close the list."""
        self._file.write("]")

    def counted(self, noun: str) -> str:
        """How many there are."""
        return f"{count_of(self._entries, 'results')} of {count_of(self._samples, noun)}"


def _rows(predicted: Predicted) -> tuple[Sequence[str], list[dict[str, Any]]]:
    """The columns of one sample, and the values of each of its rows."""
    if isinstance(predicted.cells, CsvRows):
        columns = predicted.cells.columns
        return columns, [dict(zip(columns, row, strict=True)) for row in predicted.cells.rows]
    cells = predicted.cells or _scalars(predicted.row)
    return [*cells], [cells]


def _scalars(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not isinstance(value, dict | list | tuple)}


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return escape_name(value)
    return f"{value:.6f}" if isinstance(value, float) else value
