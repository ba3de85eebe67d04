"""Tables as people write them: csv files in the separators and encodings of spreadsheets, for every kind of data."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from vision_train.data.kind import SPLITS
from vision_train.data.splits import split_called
from vision_train.errors import UserError
from vision_train.files import printable

SEPARATORS = ",;\t"
"""The one that divides the header into most columns is taken; the first of them where several do."""

_DECLARED_SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?(?=[\r\n])', re.IGNORECASE)
"""The first line by which Excel is told the separator."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_END = "\0"
"""A line behind the last one. Within a cell it shows that a quote is still open, which a reader of csv passes over."""
_EIGHT_BIT = ("utf-8-sig", "cp1252", "latin-1")
"""Encodings without zero bytes, the strictest first. Latin-1 refuses nothing, so that text always comes out."""

Row = tuple[int, dict[str, str]]
"""Line of the file, counted from 1, and cells by column, without spaces around them."""


@dataclass(frozen=True)
class Table:
    """A csv file in memory."""

    path: Path
    columns: list[str]
    """Names in the order of the file, in small letters where that tells them apart. A column without a name is called
    by the empty string."""
    rows: list[Row]
    """Rows with at least one value. Missing cells are empty."""
    written: list[str]
    """Names of the columns as the file writes them, in the order of ``columns``."""

    def rows_with(self, *columns: str, filled: bool = True) -> list[Row]:
        """Check that the table has certain columns.

        Args:
            *columns: Names of the columns.
            filled: Whether every row needs a value in each of them.

        Returns:
            All rows.

        Raises:
            UserError: A column is missing, or a value in it; the message names the column and the line.
        """
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise UserError(
                f"{self.path}: no column {' and '.join(missing)} "
                f"(found: {', '.join(filter(None, self.columns)) or 'nothing'}). "
                f"The first line must name the columns, among them {','.join(columns)}"
            )
        for line, row in self.rows if filled else ():
            empty = next((name for name in columns if not row[name]), None)
            if empty is not None:
                raise UserError(f"{self.path} line {line}: the {empty} is empty")
        return self.rows


def read_table(path: Path) -> Table:
    """Read a csv file; see :func:`read_text` and :func:`parse_table`.

    Raises:
        UserError: The file cannot be read, is binary or no csv, repeats the name of a column, or has a line with more
            values than columns.
    """
    return parse_table(path, read_text(path))


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, UTF-16 (with a byte order mark), or the code page 1252 or Latin-1 of spreadsheets.

    Raises:
        UserError: The file cannot be read or is binary.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        remedy = "; name the table in it, as in data.labels=FOLDER/labels.csv" if path.is_dir() else ""
        raise UserError(f"{path}: {error.strerror}{remedy}") from error
    encodings = ("utf-16",) if content.startswith(_UTF_16) else () if b"\0" in content else _EIGHT_BIT
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue  # the next encoding allows more
    raise UserError(f"{path}: is a binary file; export the table as csv in UTF-8")


def parse_table(path: Path, text: str) -> Table:
    """Parse the text of a csv file.

    The columns are separated by commas, semicolons or tabs, or as a first line ``sep=;`` says. The first line with a
    value names them; the case of names does not count. Lines without any value, as spreadsheets leave them below a
    table, are skipped.

    Args:
        path: Name of the file in messages.
        text: Its content.

    Raises:
        UserError: The text is no csv, two columns have the same name, or a line has more values than columns.
    """
    try:
        lines = list(_filled_lines(text))
    except csv.Error as error:
        raise UserError(f"{path}: not a csv file ({error})") from error
    columns = lines[0][1] if lines else []
    read = ("path", "label", "split", "group")  # whatever their case
    known = [name.casefold() if name.casefold() in read else name for name in columns]
    repeated = sorted({name for name in known if name and known.count(name) > 1})
    if repeated:
        raise UserError(f"{path}: two columns are called {', '.join(repeated)}; give each a name of its own")
    named = max((place for place, name in enumerate(columns, 1) if name), default=0)
    for line, cells in lines[1:]:
        if beyond := [cell for cell in cells[named:] if cell]:
            raise UserError(
                f"{path} line {line}: `{printable(beyond[0])}` stands behind the last column, {columns[named - 1]}. "
                "Quote values that hold the separator, or name the column"
            )
    written, columns = columns, _in_small_letters(columns)
    return Table(path, columns, [(line, _by_column(columns, cells)) for line, cells in lines[1:]], written)


def _in_small_letters(columns: list[str]) -> list[str]:
    small = [name.casefold() for name in columns]
    return [low if small.count(low) == 1 else name for low, name in zip(small, columns, strict=True)]


def split_named(text: str, place: str, column: str = "split") -> str:
    """The split that a cell names, by any name that :func:`vision_train.data.splits.split_called` knows.

    Args:
        text: The cell.
        place: File and line, for the message.
        column: Name of its column, for the message.

    Raises:
        UserError: The cell names no split.
    """
    split = split_called(text)
    if split is None:
        raise UserError(f"{place}: {column} is `{text}`; write {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")
    return split


def _filled_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line with a value, the header among them."""
    declared = _DECLARED_SEPARATOR.match(text)
    separator = declared[1] if declared else _separator(text)
    reader = csv.reader(chain(io.StringIO(text, newline=""), [_END]), delimiter=separator)
    read = 0
    for cells in reader:
        if cells == [_END]:
            return
        if cells and cells[-1].endswith(_END):
            raise csv.Error(f"a quote that opens in line {read + 1} is never closed; close it or take it out")
        read = reader.line_num
        stripped = [cell.strip() for cell in cells]
        if any(stripped) and not (declared and reader.line_num == 1):
            yield reader.line_num, stripped


def _separator(text: str) -> str:
    header = next((line for line in io.StringIO(text, newline="") if line.strip(f"{SEPARATORS} \r\n")), "")
    return max(SEPARATORS, key=lambda separator: len(next(csv.reader([header], delimiter=separator), [])))


def _by_column(columns: list[str], cells: list[str]) -> dict[str, str]:
    row = dict.fromkeys(columns, "")
    # The first of several columns without a name is an index; those behind the last named one are empty.
    row.update(reversed([*zip(columns, cells, strict=False)]))
    return row
