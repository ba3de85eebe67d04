"""Labels and splits of slides, from the csv and json files of CLAM, BRACS and ACMIL.

Ids are text, whatever they look like: `007` stays `007`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_train.data.bags.index import slide_id
from vision_train.data.labels import is_missing
from vision_train.data.splits import split_called
from vision_train.data.tables import Row, parse_table, read_text, split_named
from vision_train.errors import UserError
from vision_train.wording import first_named

_ID, _LABEL, _CASE = "slide_id", "label", "case_id"
_SPLIT_COLUMNS = ("split", "split_info")
_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")
_NAMES = re.compile(r"_(names|ids|slides)$")
"""What json calls a list of slides of a split, after its name."""

Rows = list[tuple[str, dict[str, str]]]
"""Place of each row (``line 3``), and its cells by column."""


@dataclass(frozen=True, slots=True)
class SlideLabel:
    """Label of a slide and what a table says besides."""

    label: str
    case: str | None = None
    """Patient or specimen. Its slides stay together when splits are cut."""
    split: str | None = None
    """`train`, `val` or `test`; None where the table names none, or leaves the cell empty."""


@dataclass(frozen=True)
class Labels:
    """Labels of slides by id."""

    slides: dict[str, SlideLabel]
    bad: dict[str, str]
    """Reason why a slide that is listed has no label, by id."""
    written: dict[str, str] = field(default_factory=dict)
    """What the table calls slides, by id, where it calls them otherwise."""
    notes: list[str] = field(default_factory=list)
    """What the user should know about the table."""


@dataclass(frozen=True)
class SlideSplits:
    """Splits of slides by id."""

    slides: dict[str, str]
    written: dict[str, str] = field(default_factory=dict)
    """As of :class:`Labels`."""


def read_labels(path: Path) -> Labels:
    """Read the labels of slides.

    Args:
        path: A csv with the columns ``slide_id`` and ``label``, and optionally ``case_id`` and ``split`` (BRACS:
            ``split_info``); others, such as an index without a name, are ignored. Or json: one object that maps ids to
            labels.

    Raises:
        UserError: The file cannot be read, has no rows, lacks a column or an id, or names an unknown split.
    """
    rows = _label_rows(path)
    if not rows:
        raise UserError(f"{path}: no slides in it")
    places: dict[str, list[str]] = {}
    slides: dict[str, SlideLabel] = {}
    written: dict[str, str] = {}
    for place, row in rows:
        bag_id = slide_id(row[_ID])
        if not bag_id:
            raise UserError(f"{path} {place}: the {_ID} is empty")
        places.setdefault(bag_id, []).append(place)
        written[bag_id] = row[_ID]
        case = row.get(_CASE, "")
        split = _split_of(row, f"{path} {place}")
        slides[bag_id] = SlideLabel(row[_LABEL], None if is_missing(case) else case, split)
    bad = {bag_id: f"listed more than once in {path}" for bag_id, found in places.items() if len(found) > 1}
    bad |= {bag_id: f"no label in {path}" for bag_id, slide in slides.items() if not slide.label}
    notes = _without_case(path, slides) if any(_CASE in row for _, row in rows) else []
    labelled = {bag_id: slide for bag_id, slide in slides.items() if bag_id not in bad}
    return Labels(labelled, bad, _otherwise(written), notes)


def _without_case(path: Path, slides: dict[str, SlideLabel]) -> list[str]:
    alone = [bag_id for bag_id, slide in slides.items() if slide.case is None]
    if not alone:
        return []
    return [
        f"{path}: no {_CASE} of {len(alone)} slides, each of which counts as a case of its own: {first_named(alone)}"
    ]


def _otherwise(written: dict[str, str]) -> dict[str, str]:
    return {bag_id: name for bag_id, name in written.items() if name != bag_id}


def read_splits(path: Path) -> SlideSplits:
    """Read the split of each slide.

    Args:
        path: CLAM's csv, with columns ``train,val,test`` of ids or of True and False; a csv with the columns
            ``slide_id`` and ``split`` (or ``split_info``); or ACMIL's json with ``train_names``, ``val_names`` and
            ``test_names``.

    Returns:
        Name of the split of each slide. Slides that the file puts into no split are left out.

    Raises:
        UserError: The file cannot be read, is none of these, or lists slides more than once.
    """
    splits: dict[str, list[str]] = {}
    written: dict[str, str] = {}
    for name, split in _named_splits(path):
        splits.setdefault(slide_id(name), []).append(split)
        written[slide_id(name)] = name
    if not splits:
        raise UserError(f"{path}: no slides in it")
    repeated = [f"{bag_id} ({' and '.join(found)})" for bag_id, found in splits.items() if len(found) > 1]
    if repeated:
        raise UserError(
            f"{path}: slides listed more than once: {first_named(repeated)}. "
            "Put each slide into one split only; a slide that is trained on must not be tested on"
        )
    return SlideSplits({bag_id: split for bag_id, (split,) in splits.items()}, _otherwise(written))


def _label_rows(path: Path) -> Rows:
    text = read_text(path)
    if _is_json(text):
        content = _json_of(path, text)
        if any(isinstance(label, dict | list) for label in content.values()):
            raise UserError(f'{path}: json of labels must hold the label of each id, such as {{"slide_1": "tumour"}}')
        return [("json", {_ID: name, _LABEL: "" if label is None else str(label)}) for name, label in content.items()]
    return _placed(parse_table(path, text).rows_with(_ID, _LABEL, filled=False))


def _named_splits(path: Path) -> Iterator[tuple[str, str]]:
    text = read_text(path)
    if _is_json(text):
        yield from _json_splits(path, text)
        return
    table = parse_table(path, text)
    columns, rows = table.columns, _placed(table.rows)
    present = {name: split for name in columns if (split := split_called(name))}
    index = _ID if _ID in columns else next((name for name in columns if name not in present), None)
    if _ID in columns and any(name in columns for name in _SPLIT_COLUMNS):
        named = ((row[_ID], _split_of(row, f"{path} {place}")) for place, row in rows)
        yield from ((name, split) for name, split in named if split)
    elif present and index is not None and _all_booleans(rows, present):
        yield from ((row[index], split) for _, row in rows for name, split in present.items() if _is_true(row[name]))
    elif present:
        listed = ((row[name], split) for name, split in present.items() for _, row in rows)
        yield from ((name, split) for name, split in listed if not is_missing(name))
    else:
        raise UserError(
            f"{path}: names no splits (columns: {', '.join(filter(None, columns)) or 'none'}). It needs the columns "
            f"train,val,test, as CLAM writes them, or {_ID},split"
        )


def _all_booleans(rows: Rows, columns: Collection[str]) -> bool:
    """Whether the columns of splits say of each row whether it belongs to them; an empty cell says that it does not."""
    counts = Counter(row[name].casefold() for _, row in rows for name in columns)
    del counts[""]
    if not counts or not counts.keys() <= {*_TRUE, *_FALSE}:
        return False
    # Slides may be called 0 and 1, but then each is listed once.
    return "true" in counts or "false" in counts or max(counts.values()) > 1


def _is_true(cell: str) -> bool:
    return cell.casefold() in _TRUE


def _json_splits(path: Path, text: str) -> Iterator[tuple[str, str]]:
    content = _json_of(path, text)
    lists = {
        key: (split, names)
        for key, names in content.items()
        if names is not None and (split := split_called(_NAMES.sub("", key)))
    }
    if not lists or not all(isinstance(names, list) for _, names in lists.values()):
        raise UserError(f"{path}: names no splits; it needs lists called train_names, val_names and test_names")
    yield from ((str(name), split) for split, names in lists.values() for name in names)


def _split_of(row: dict[str, str], place: str) -> str | None:
    column = next((name for name in _SPLIT_COLUMNS if name in row), None)
    if column is None or is_missing(row[column]):
        return None
    return split_named(row[column], place, column)


def _placed(rows: list[Row]) -> Rows:
    return [(f"line {line}", row) for line, row in rows]


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
