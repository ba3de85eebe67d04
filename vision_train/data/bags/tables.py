"""Labels and splits of slides, from the csv and json files of CLAM, BRACS and ACMIL.

Ids are text, whatever they look like: `007` stays `007`.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_train.data.bags.index import slide_id
from vision_train.errors import UserError

SPLITS = ("train", "val", "test")
MOST_NAMED = 10
"""A message counts the slides beyond these without naming them."""

_ID, _LABEL, _CASE = "slide_id", "label", "case_id"
_SPLIT_COLUMNS = ("split", "split_info")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Rows = list[tuple[str, dict[str, str]]]
"""Where each row is (``line 3``), and its stripped cells by column."""


@dataclass(frozen=True, slots=True)
class SlideLabel:
    """What a table says of a slide."""

    label: str
    case: str | None = None
    """Patient or specimen, whose slides must stay together when splits are cut."""
    split: str | None = None
    """`train`, `val` or `test`; None where the table does not say."""


@dataclass(frozen=True)
class Labels:
    """Labels of slides by id."""

    slides: dict[str, SlideLabel]
    bad: dict[str, str]
    """Why other slides that are listed have no label."""


def read_labels(path: Path) -> Labels:
    """Read labels.

    Args:
        path: A csv with the columns ``slide_id`` and ``label``, and optionally ``case_id`` and ``split`` (BRACS:
            ``split_info``); others, such as a nameless index, are ignored. Or json: one object, the label of each id.

    Raises:
        UserError: It cannot be read, has no rows, lacks a column or an id, or names an unknown split.
    """
    rows = _label_rows(path)
    if not rows:
        raise UserError(f"{path}: no slides in it")
    places: dict[str, list[str]] = {}
    slides: dict[str, SlideLabel] = {}
    for place, row in rows:
        bag_id = slide_id(row[_ID])
        if not bag_id:
            raise UserError(f"{path} {place}: the {_ID} is empty")
        places.setdefault(bag_id, []).append(place)
        slides[bag_id] = SlideLabel(row[_LABEL], row.get(_CASE) or None, _split_of(row, f"{path} {place}"))
    bad = {bag_id: f"listed more than once in {path}" for bag_id, found in places.items() if len(found) > 1}
    bad |= {bag_id: f"no label in {path}" for bag_id, slide in slides.items() if not slide.label}
    return Labels({bag_id: slide for bag_id, slide in slides.items() if bag_id not in bad}, bad)


def read_splits(path: Path) -> dict[str, str]:
    """Read which slide is in which split.

    Args:
        path: CLAM's csv, with columns ``train,val,test`` of ids or of True and False; a csv with the columns
            ``slide_id`` and ``split`` (or ``split_info``); or ACMIL's json with ``train_names``, ``val_names`` and
            ``test_names``.

    Returns:
        Name of the split by id.

    Raises:
        UserError: It cannot be read, is none of these, or lists slides more than once.
    """
    splits: dict[str, list[str]] = {}
    for name, split in _named_splits(path):
        splits.setdefault(slide_id(name), []).append(split)
    if not splits:
        raise UserError(f"{path}: no slides in it")
    repeated = [f"{bag_id} ({' and '.join(found)})" for bag_id, found in splits.items() if len(found) > 1]
    if repeated:
        raise UserError(
            f"{path}: slides listed more than once: {first_named(repeated)}. "
            "A slide may be in one split only, or what is measured has been learned"
        )
    return {bag_id: split for bag_id, (split,) in splits.items()}


def first_named(names: list[str]) -> str:
    """The first ten names, and how many there are in all."""
    if len(names) <= MOST_NAMED:
        return f"{', '.join(names)} ({len(names)} in all)" if len(names) > 1 else names[0]
    return f"{', '.join(names[:MOST_NAMED])}, ... ({len(names)} in all)"


def _label_rows(path: Path) -> Rows:
    text = _text_of(path)
    if _is_json(text):
        content = _json_of(path, text)
        if any(isinstance(label, dict | list) for label in content.values()):
            raise UserError(f'{path}: json of labels must hold the label of each id, such as {{"slide_1": "tumour"}}')
        return [("json", {_ID: name, _LABEL: "" if label is None else str(label)}) for name, label in content.items()]
    columns, rows = _csv_of(path, text)
    missing = [name for name in (_ID, _LABEL) if name not in columns]
    if missing:
        raise UserError(
            f"{path}: no column {' and '.join(missing)} (found: {', '.join(filter(None, columns)) or 'nothing'}). "
            f"The first line must name the columns, among them {_ID},{_LABEL}"
        )
    return rows


def _named_splits(path: Path) -> Iterator[tuple[str, str]]:
    text = _text_of(path)
    if _is_json(text):
        yield from _json_splits(path, text)
        return
    columns, rows = _csv_of(path, text)
    present = [split for split in SPLITS if split in columns]
    index = _ID if _ID in columns else next((name for name in columns if name not in SPLITS), None)
    if _ID in columns and any(name in columns for name in _SPLIT_COLUMNS):
        named = ((row[_ID], _split_of(row, f"{path} {place}")) for place, row in rows)
        yield from ((name, split) for name, split in named if split)
    elif present and index is not None and _all_booleans(rows, present):
        yield from ((row[index], split) for _, row in rows for split in present if row[split].lower() == "true")
    elif present:
        yield from ((row[split], split) for split in present for _, row in rows if row[split])
    else:
        raise UserError(
            f"{path}: names no splits (columns: {', '.join(filter(None, columns)) or 'none'}). It needs the columns "
            f"train,val,test, as CLAM writes them, or {_ID},split"
        )


def _all_booleans(rows: Rows, columns: list[str]) -> bool:
    return all(row[name].lower() in ("true", "false") for _, row in rows for name in columns)


def _json_splits(path: Path, text: str) -> Iterator[tuple[str, str]]:
    content = _json_of(path, text)
    lists = {split: content.get(f"{split}_names", content.get(split)) for split in SPLITS}
    given = [names for names in lists.values() if names is not None]
    if not given or not all(isinstance(names, list) for names in given):
        raise UserError(f"{path}: names no splits; it needs lists called train_names, val_names and test_names")
    yield from ((str(name), split) for split, names in lists.items() for name in names or ())


def _split_of(row: dict[str, str], place: str) -> str | None:
    column = next((name for name in _SPLIT_COLUMNS if name in row), None)
    if column is None or not row[column]:
        return None
    if row[column].lower() not in SPLITS:
        raise UserError(f"{place}: {column} is `{row[column]}`; write train, val or test")
    return row[column].lower()


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if content.startswith(_UTF_16):
        return content.decode("utf-16", "replace")
    if b"\0" in content:
        raise UserError(f"{path}: is a binary file; export the table as csv")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # of older spreadsheets; ids are rarely more than ASCII


def _is_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def _json_of(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is damaged json ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: the json must be one object, beginning with {{")
    return content


def _csv_of(path: Path, text: str) -> tuple[list[str], Rows]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, restval="")
        columns = [name.strip() for name in reader.fieldnames or []]
        repeated = sorted({name for name in columns if name and columns.count(name) > 1})
        if repeated:
            raise UserError(f"{path}: two columns are called {', '.join(repeated)}; give each a name of its own")
        reader.fieldnames = columns
        rows = [(f"line {reader.line_num}", {name: row[name].strip() for name in columns}) for row in reader]
        return columns, [(place, row) for place, row in rows if any(row.values())]
    except csv.Error as error:
        raise UserError(f"{path}: not a csv file ({error})") from error
