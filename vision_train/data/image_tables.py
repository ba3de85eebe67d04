"""Images and labels listed in a csv."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from vision_train.data.kind import SKIP_BAD, OnBad
from vision_train.data.labels import class_name, is_missing, labels_were_floats, several_in_one, whole_numbers
from vision_train.data.sample import ImageSample
from vision_train.data.tables import Row, read_table, split_named
from vision_train.errors import UserError
from vision_train.files import is_output, printable, unescape_name, written_names
from vision_train.wording import count_of, first_named

DECLARE = "name all classes with data.classes=[NAME,...]"
"""The remedy for names that are those of classes, though they look like something else."""


@dataclass(frozen=True)
class FoundImages:
    """Samples in a fixed order, and what the user should know of them."""

    samples: list[ImageSample]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ListedFile:
    """A file that a table lists."""

    line: int
    name: str
    """As the table writes it, but with the bytes and separators of the file system."""
    path: str
    cells: dict[str, str]

    @property
    def group(self) -> str | None:
        """What the column ``group`` says; None where it says nothing, or there is none."""
        written = self.cells.get("group", "")
        return None if is_missing(written) else written


def read_csv(
    table: Path,
    root: Path | None,
    on_bad: OnBad = "error",
    *,
    labelled: bool = True,
    declared: Collection[str] = (),
) -> FoundImages:
    """Read a csv with the columns ``path,label`` and, optionally, ``split`` and ``group``; others are ignored.

    Args:
        table: A csv file, as :func:`vision_train.data.tables.read_table` reads it.
        root: The folder that the paths are relative to; None for the folder of the csv.
        on_bad: Whether images whose label is missing stop everything or are left out and counted.
        labelled: Whether every image needs a label.
        declared: Labels that name a class, whatever they look like.

    Raises:
        UserError: The table cannot be read, lacks a column or value, lists a file that does not exist or one twice, or
            gives several labels to an image.
    """
    listed, notes = listed_files(table, root, *(["label"] if labelled else []))
    if not listed:
        raise UserError(f"{table}: no lines below the header")
    files, splits = splits_of(table, listed, notes)
    labels = _labels_of(table, files, declared, notes)
    of_several = {*several_in_one(set(labels.values()), declared)}
    several = [file for file in files if labels[file.line] in of_several]
    missing = [file for file in files if is_missing(labels[file.line], declared)]
    if labelled:
        _refuse_several(table, several, labels)
        notes += without_label(table, missing, labels, on_bad)
    refuse_repeated(table, listed)
    known = labels.keys() - {file.line for file in [*several, *missing]}
    samples = [
        ImageSample(
            file.name,
            file.path,
            labels[file.line] if file.line in known else None,
            splits.get(file.line),
            file.group,
        )
        for file in files
        if file.line in known or not labelled
    ]
    if not samples:
        raise UserError(f"{table}: no image in it has a label")
    return FoundImages(samples, notes)


def splits_of(table: Path, files: list[ListedFile], notes: list[str]) -> tuple[list[ListedFile], dict[int, str]]:
    """Files and their splits by line. Where some files are in a split, those in none are left out and counted."""
    inside = [file for file in files if not is_missing(file.cells.get("split", ""))]
    splits = {file.line: split_named(file.cells["split"], f"{table} line {file.line}") for file in inside}
    outside = [f"{file.name} in line {file.line}" for file in files if file.line not in splits]
    if splits and outside:
        notes.append(
            f"{table}: left out {count_of(len(outside), 'images')}, as their split is empty: {first_named(outside)}"
        )
    return inside or files, splits


def _labels_of(table: Path, files: list[ListedFile], declared: Collection[str], notes: list[str]) -> dict[int, str]:
    """Labels by line; whole numbers are told from floats."""
    written = {file.line: class_name(file.cells.get("label", "")) for file in files}
    whole = whole_numbers(set(written.values()), declared)
    if whole:
        notes.append(f"{table}: {labels_were_floats(whole)}")
    return {line: whole.get(label, label) for line, label in written.items()}


def listed_files(table: Path, root: Path | None, *columns: str) -> tuple[list[ListedFile], list[str]]:
    """Files that the column ``path`` of a csv names, and what the user should know of them.

    A path may be written as :func:`vision_train.files.escape_name` writes it, or with the backslashes of Windows, where
    no file is called so. Files that this program wrote are left out.

    Args:
        table: The csv.
        root: The folder that the paths are relative to; None for the folder of the csv.
        *columns: Further columns that the table must have.

    Raises:
        UserError: The table cannot be read or lacks a column, or a file is absent.
    """
    folder = table.parent if root is None else root
    content = read_table(table)
    content.rows_with("path", *columns, filled=False)
    files = [_listed_file(table, row, folder, root_named=root is not None) for row in content.rows_with("path")]
    outputs = _written_by_us(file.path for file in files)
    notes = [f"left out, as vision-train wrote it: {first_named(outputs)}"] if outputs else []
    if converted := [file.name for file in files if "\\" in file.cells["path"] and "\\" not in file.name]:
        notes.append(f"{table}: backslashes in paths were read as /: {first_named(converted)}")
    left_out = set(outputs)
    return [file for file in files if file.path not in left_out], notes


def _listed_file(table: Path, row: Row, folder: Path, *, root_named: bool) -> ListedFile:
    line, cells = row
    written = cells["path"]
    for name in dict.fromkeys((written, unescape_name(written), written.replace("\\", "/"))):
        path = os.path.normpath(folder / name)
        if Path(path).is_file():
            return ListedFile(line, name, path, cells)
    raise UserError(
        f"{table} line {line}: no file {printable(os.path.normpath(folder / written))}. Paths are relative to "
        f"{folder.absolute()}{'' if root_named else '; where the images lie elsewhere, set data.root=FOLDER'}"
    )


def _written_by_us(paths: Iterable[str]) -> list[str]:
    """Those of the files that this program wrote; each folder is looked into once."""

    @cache
    def is_inside(folder: Path) -> bool:
        return is_output(folder) or (folder.parent != folder and is_inside(folder.parent))

    names = cache(written_names)
    places = {path: Path(path).absolute() for path in paths}
    return [path for path, place in places.items() if is_inside(place.parent) or place.name in names(place.parent)]


def refuse_repeated(table: Path, files: Sequence[ListedFile]) -> None:
    """Refuse a table that lists a file twice.

    Raises:
        UserError: It does.
    """
    lines: dict[str, int] = {}
    for file in files:
        if file.path in lines:
            raise UserError(
                f"{table} line {file.line}: {file.name} is listed already in line {lines[file.path]}; keep one of them"
            )
        lines[file.path] = file.line


def _refuse_several(table: Path, files: Sequence[ListedFile], labels: dict[int, str]) -> None:
    if not files:
        return
    first = files[0]
    raise UserError(
        f"{table}: {len(files)} labels name several classes each, such as `{printable(labels[first.line])}` in line "
        f"{first.line} ({printable(first.name)}). An image has one label here: keep one a line, or train on several an "
        "image with data.multi_label=true, method.loss=bce and labels divided by |, where task=classification. If it "
        f"is the name of one class, {DECLARE}"
    )


def without_label(table: Path, files: Sequence[ListedFile], labels: dict[int, str], on_bad: OnBad) -> list[str]:
    """Name and count images whose label is missing.

    Raises:
        UserError: They stop everything.
    """
    if not files:
        return []
    written = Counter(labels[file.line] or "nothing" for file in files)
    words = ", ".join(f"`{printable(word)}` {count} times" for word, count in written.items())
    named = first_named([f"{file.name} in line {file.line}" for file in files])
    if on_bad == "skip":
        return [f"{table}: left out {count_of(len(files), 'images')} without a label ({words}): {named}"]
    raise UserError(
        f"{table}: no label of {count_of(len(files), 'images')} ({words}): {named}. Label them, or {SKIP_BAD}. If it "
        f"is the name of a class, {DECLARE}"
    )
