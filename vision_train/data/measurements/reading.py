"""The csv of images with numbers, read and checked."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import fmean, pstdev

from vision_train.data.image_tables import ListedFile, listed_files, refuse_repeated, splits_of
from vision_train.data.kind import SKIP_BAD
from vision_train.data.labels import is_missing
from vision_train.data.measurements import TABLE, Section
from vision_train.data.sample import ImageSample, Sample
from vision_train.data.tables import read_table
from vision_train.data.toy.discs import DIAMETER, discs_samples
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.wording import count_of, first_named

NO_NUMBERS = frozenset({"", "path", "split", "group"})
"""Columns beside those of numbers."""
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
LARGEST = 1e30
"""Networks compute with numbers of 32 bits, which reach to about 3e38."""
LEAST_SPREAD = 1_000 * 2**-23
"""Least deviation, as a share of the largest number: rounding to 32 bits (a share of 2^-23) is a thousandth of it."""


def read_measurements(
    section: Section, known: Sequence[str] | None = None
) -> tuple[list[ImageSample], list[str], list[str]]:
    """Samples, names of their numbers, and what the user should know.

    Args:
        section: The recipe's ``data``.
        known: Names of the numbers of an earlier run.

    Raises:
        UserError: The table cannot be read, or lacks a number or the column that holds it; or the numbers are not
            those of the earlier run.
    """
    targets = [DIAMETER] if section.source != TABLE else section.targets
    if known and targets and {*targets} != {*known}:
        raise UserError(
            f"data.targets=[{','.join(targets)}]: the run has learnt [{','.join(known)}]; leave the key out, and call "
            "the columns of another table like those"
        )
    if section.source != TABLE:
        return list(discs_samples()), [DIAMETER], []
    assert section.labels is not None, "the section demands it"
    table, root = Path(section.labels), None if section.root is None else Path(section.root)
    columns = _columns(table, known or targets)
    listed, notes = listed_files(table, root, *columns.values())
    if not listed:
        raise UserError(f"{table}: no lines below the header")
    files, splits = splits_of(table, listed, notes)
    refuse_repeated(table, listed)
    missing = [file for file in files if any(is_missing(file.cells[column]) for column in columns.values())]
    if missing:
        notes.append(_without_number(table, missing, skip=section.on_bad == "skip"))
    left_out = {file.line for file in missing}
    samples = [
        ImageSample(file.name, file.path, _numbers(table, file, columns), splits.get(file.line), file.group)
        for file in files
        if file.line not in left_out
    ]
    if not samples:
        raise UserError(f"{table}: no image in it has a number")
    return samples, list(columns), notes


def refuse_alike(samples: Sequence[Sample], names: Sequence[str], named: str) -> None:
    """Refuse numbers that are all the same, or differ by so little that 32 bits do not tell them apart.

    Args:
        samples: Those to learn from.
        names: Of the numbers.
        named: The key that names the samples, with its value.

    Raises:
        UserError: There are such numbers.
    """
    for name, column in zip(names, zip(*(sample.truth for sample in samples), strict=True), strict=bool(samples)):
        low, high, deviation = min(column), max(column), pstdev(column)
        if low == high:
            raise UserError(
                f"{named}: every training image has {printable(name)} {low:g}, so there is nothing to learn; name "
                "other columns with data.targets, or add images"
            )
        if deviation < LEAST_SPREAD * max(abs(low), abs(high)) or deviation < 1 / LARGEST:
            raise UserError(
                f"{named}: {printable(name)} reaches from {low:.12g} to {high:.12g}, which differ by too little for "
                "numbers of 32 bits; subtract the smallest from all of them, or write them in another unit"
            )


def ranges_in_words(samples: Sequence[Sample], names: Sequence[str]) -> list[str]:
    """What range each of the numbers has, a sentence each; nothing of no samples."""
    columns = zip(*(sample.truth for sample in samples), strict=True)
    return [
        f"{printable(name)} from {min(column):.4g} to {max(column):.4g}, mean {fmean(column):.4g}"
        for name, column in zip(names, columns, strict=bool(samples))
    ]


def _columns(table: Path, wanted: Collection[str] | None) -> dict[str, str]:
    """Names of the numbers to columns of the table."""
    content = read_table(table)
    found = {
        name: column for name, column in zip(content.written, content.columns, strict=True) if column not in NO_NUMBERS
    }
    shown = ", ".join(filter(None, content.written)) or "nothing"
    if wanted is None:
        if len(found) != 1:
            raise UserError(
                f"{table}: {len(found)} columns could hold the number (found: {shown}); name it with "
                "data.targets=[COLUMN]"
            )
        return found
    chosen = {}
    for name in wanted:
        column = found.get(name) or next((each for each in found.values() if each == name.casefold()), None)
        if column is None:
            raise UserError(f"{table}: no column {printable(name)} (found: {shown}); see data.targets")
        chosen[name] = column
    return chosen


def _numbers(table: Path, file: ListedFile, columns: dict[str, str]) -> tuple[float, ...]:
    found = []
    for name, column in columns.items():
        cell = file.cells[column]
        if not NUMBER.fullmatch(cell) or not abs(number := float(cell)) <= LARGEST:
            raise UserError(
                f"{table} line {file.line}: {printable(name)} is `{printable(cell)}`; write a number, with a point "
                f"for its fraction, of at most {LARGEST:.1g}"
            )
        found.append(number)
    return tuple(found)


def _without_number(table: Path, files: Sequence[ListedFile], *, skip: bool) -> str:
    """Name and count images whose number is missing.

    Raises:
        UserError: They stop everything.
    """
    named = first_named([f"{file.name} in line {file.line}" for file in files])
    said = count_of(len(files), "images")
    if skip:
        return f"{table}: left out {said} without a number: {named}"
    raise UserError(f"{table}: no number of {said}: {named}. Fill it in, or {SKIP_BAD}")
