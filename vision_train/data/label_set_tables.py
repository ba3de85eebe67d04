"""Images of which a csv says several labels each: divided by ``|`` in a column, or by 0 and 1 in one for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from vision_train.data.image_tables import (
    DECLARE,
    FoundImages,
    ListedFile,
    listed_files,
    refuse_repeated,
    splits_of,
    without_label,
)
from vision_train.data.kind import BETWEEN_LABELS, OnBad
from vision_train.data.label_sets import LabelSet
from vision_train.data.labels import class_name, is_missing, several_in_one
from vision_train.data.sample import ImageSample
from vision_train.data.tables import read_table
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.wording import count_of, first_named

NO_CLASSES = frozenset({"", "path", "split", "group"})
"""Columns beside those of classes."""
YES, NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})
"""How tables write that a class is there or not, in small letters."""


def read_label_sets(
    table: Path, root: Path | None, on_bad: OnBad = "error", *, declared: Collection[str] = ()
) -> FoundImages:
    """Read a csv with a column ``path`` and the labels of each image; ``split`` and ``group`` may say what is together.

    With a column ``label``, its cells hold names of classes divided by ``|``; an empty cell says that none is there.
    Without one, each further column is a class, with 1 where it is there and 0 where it is not. Where such a cell is
    empty nobody knows: that class of that image is neither learnt nor measured.

    Args:
        table: As :func:`vision_train.data.tables.read_table` reads it.
        root: The folder that the paths are relative to; None for the folder of the csv.
        on_bad: Whether images whose label says that there is none stop everything or are left out and counted.
        declared: Classes that the recipe or an earlier run names. Of columns, only these are read.

    Returns:
        Samples whose truths are label sets.

    Raises:
        UserError: The table cannot be read, lists a file that does not exist or one twice, or has no such columns or
            values.
    """
    content = read_table(table)
    if "label" in content.columns:
        listed, notes = listed_files(table, root, "label")
        read = _by_cell
    else:
        listed, notes = listed_files(table, root)
        read = _by_columns
    if not listed:
        raise UserError(f"{table}: no lines below the header")
    files, splits = splits_of(table, listed, notes)
    refuse_repeated(table, listed)
    names = dict(zip(content.columns, content.written, strict=True))
    truths = read(table, files, names, declared, on_bad, notes)
    beside = [written for column, written in names.items() if column not in {*NO_CLASSES, "label"}]
    if "label" in content.columns and beside:
        notes.append(f"{table}: labels are those of the column label; not read: {first_named(beside)}")
    return FoundImages(
        [
            ImageSample(file.name, file.path, truths[file.line], splits.get(file.line), file.group)
            for file in files
            if file.line in truths
        ],
        notes,
    )


def _by_cell(
    table: Path,
    files: Sequence[ListedFile],
    names: dict[str, str],
    declared: Collection[str],
    on_bad: OnBad,
    notes: list[str],
) -> dict[int, LabelSet]:
    """Label sets by line, of cells such as ``cat|dog``."""
    written = {file.line: file.cells["label"] for file in files}
    missing = [file for file in files if written[file.line] and is_missing(written[file.line], declared)]
    notes += without_label(table, missing, written, on_bad)
    left_out = {file.line for file in missing}
    truths = {line: label_set(cell) for line, cell in written.items() if line not in left_out}
    parts = {name for truth in truths.values() for name in truth.present}
    if several := several_in_one(parts, declared):
        line = next(line for line, truth in truths.items() if several[0] in truth.present)
        raise UserError(
            f"{table} line {line}: `{printable(several[0])}` names several classes; divide labels by {BETWEEN_LABELS}. "
            f"If it is the name of one class, {DECLARE}"
        )
    if doubtful := sorted(name for name in parts if is_missing(name, declared)):
        line = next(line for line, truth in truths.items() if doubtful[0] in truth.present)
        raise UserError(
            f"{table} line {line}: `{printable(doubtful[0])}` stands among labels, and says that there is none; take "
            f"it out. If it is the name of a class, {DECLARE}"
        )
    empty = sum(not truth.present for truth in truths.values())
    if empty:
        notes.append(f"{table}: {count_of(empty, 'images')} with an empty label bear none of the classes")
    return truths


def label_set(cell: str) -> LabelSet:
    """The classes that a cell such as ``cat|dog`` names, each once."""
    return LabelSet(tuple(sorted({name for part in cell.split(BETWEEN_LABELS) if (name := class_name(part))})))


def _by_columns(
    table: Path,
    files: Sequence[ListedFile],
    names: dict[str, str],
    declared: Collection[str],
    on_bad: OnBad,
    notes: list[str],
) -> dict[int, LabelSet]:
    """Label sets by line, of columns of 0 and 1."""
    column_of = _class_columns(table, names, declared)
    truths: dict[int, LabelSet] = {}
    unknown: Counter[str] = Counter()
    for file in files:
        said = {name: _says(table, file, column, name) for name, column in column_of.items()}
        absent_word = [name for name, value in said.items() if value is None]
        unknown.update(absent_word)
        truths[file.line] = LabelSet(tuple(name for name, value in said.items() if value), tuple(absent_word))
    if unknown:
        named = first_named([f"{name} ({count:,})" for name, count in sorted(unknown.items())])
        notes.append(
            f"{table}: {count_of(unknown.total(), 'values')} missing in columns of classes are unknown, and neither "
            f"learnt nor measured: {named}"
        )
    return truths


def _class_columns(table: Path, names: dict[str, str], declared: Collection[str]) -> dict[str, str]:
    """Names of classes, in the order of the file, to columns."""
    found = {class_name(written): column for column, written in names.items() if column not in NO_CLASSES}
    if not declared:
        if not found:
            raise UserError(
                f"{table}: no column label, and no column of a class (found: {', '.join(filter(None, names))}). Add "
                f"`label` with labels divided by {BETWEEN_LABELS}, or a column of 0 and 1 for each class"
            )
        if divided := [name for name in found if BETWEEN_LABELS in name]:
            raise UserError(
                f"{table}: the column {divided[0]} holds a {BETWEEN_LABELS}, which divides labels; rename it"
            )
        return found
    if absent := [name for name in declared if name not in found]:
        raise UserError(
            f"{table}: no column {first_named(absent)}, which is one of the classes (found: "
            f"{', '.join(filter(None, names.values()))})"
        )
    return {name: column for name, column in found.items() if name in declared}


def _says(table: Path, file: ListedFile, column: str, name: str) -> bool | None:
    """What a cell says; None where it says nothing."""
    cell = file.cells[column].casefold()
    if cell in YES or cell in NO:
        return cell in YES
    if is_missing(cell):
        return None
    raise UserError(
        f"{table} line {file.line}: {name} is `{printable(file.cells[column])}`; a column of a class holds 1, 0 or, "
        "where nobody knows, nothing. If not all columns are classes, name those that are with data.classes=[NAME,...]"
    )
