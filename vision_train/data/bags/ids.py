"""Ids of slides as tables write them, matched with those of the features: with endings of files, or as floats."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from vision_train.data.bags.formats import FEATURE_ENDINGS
from vision_train.data.bags.index import slide_id
from vision_train.data.bags.tables import Labels, SlideSplits
from vision_train.wording import first_named

_FLOAT = re.compile(r"([0-9]+)\.0+")


@dataclass(frozen=True)
class MatchedIds:
    """Which bag each id of a table means."""

    ids: dict[str, str] = field(default_factory=dict)
    """Id in the table -> id of the features, for those that differ."""
    notes: list[str] = field(default_factory=list)


def match_ids(
    listed: Iterable[str], known: Collection[str], table: str, written: Mapping[str, str] | None = None
) -> MatchedIds:
    """Find the bags that ids mean which are written otherwise than the files of features are called.

    An id may carry the ending of a file (``S00.h5``), folders before it, or be a whole number that a program made a
    float (``18.0``). It means a bag only where no other bag and no other id could be meant: not where there is `018`
    beside `18`.

    Args:
        listed: Ids of a table.
        known: Ids of the features.
        table: Name of the table, for the notes.
        written: What the table calls slides, by id, where it calls them otherwise.
    """
    listed = list(listed)
    unknown = [bag_id for bag_id in dict.fromkeys(listed) if bag_id not in known]
    taken = {bag_id for bag_id in listed if bag_id in known}
    numbers: dict[int, list[str]] = {}
    for bag_id in known:
        if bag_id.isdecimal():
            numbers.setdefault(int(bag_id), []).append(bag_id)
    meant: dict[str, list[str]] = {}
    for bag_id in unknown:
        if (plain := _plain(bag_id)) in known and plain not in taken and _is_only(bag_id, plain, numbers):
            meant.setdefault(plain, []).append(bag_id)
    ids = {found[0]: plain for plain, found in meant.items() if len(found) == 1}
    return MatchedIds(ids, _told(ids, table, written or {}, known))


def _told(ids: Mapping[str, str], table: str, written: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Say which ids are written otherwise than the files of features are called, and how."""
    floats = {bag_id: plain for bag_id, plain in ids.items() if _FLOAT.fullmatch(_without_file(bag_id))}
    files = {bag_id: bag_id for bag_id in written if bag_id in known}  # the ending of a slide is gone already
    files |= {bag_id: plain for bag_id, plain in ids.items() if bag_id not in floats}
    notes = []
    for how, those in (("are written as floats", floats), ("carry the ending or folder of a file", files)):
        if those:
            named = first_named([f"{written.get(bag_id, bag_id)} is {plain}" for bag_id, plain in those.items()])
            notes.append(f"{table}: ids {how}: {named}")
    return notes


def match_tables(
    known: Collection[str], labels: Labels | None, splits: SlideSplits | None
) -> tuple[Labels | None, SlideSplits | None, list[str]]:
    """Write the ids of both tables as those of the features, where it is clear which are meant, and say so."""
    notes: list[str] = []
    if labels is not None:
        matched = match_ids([*labels.slides, *labels.bad], known, "the table of labels", labels.written)
        slides = {matched.ids.get(bag_id, bag_id): slide for bag_id, slide in labels.slides.items()}
        bad = {matched.ids.get(bag_id, bag_id): reason for bag_id, reason in labels.bad.items()}
        labels, notes = replace(labels, slides=slides, bad=bad), notes + matched.notes
    if splits is not None:
        matched = match_ids(splits.slides, known, "the file of splits", splits.written)
        named = {matched.ids.get(bag_id, bag_id): split for bag_id, split in splits.slides.items()}
        splits, notes = replace(splits, slides=named), notes + matched.notes
    return labels, splits, notes


def _plain(bag_id: str) -> str:
    """An id without folders, the ending of a file and the decimals of a float."""
    name = _without_file(bag_id)
    number = _FLOAT.fullmatch(name)
    return number[1] if number else name


def _without_file(bag_id: str) -> str:
    name = re.split(r"[/\\]", bag_id)[-1]
    ending = next((ending for ending in FEATURE_ENDINGS if name.lower().endswith(ending)), "")
    return slide_id(name[: len(name) - len(ending)])


def _is_only(written: str, plain: str, numbers: Mapping[int, list[str]]) -> bool:
    """Whether a float can mean no other bag, whose zeros it would have lost."""
    return not _FLOAT.fullmatch(_without_file(written)) or len(numbers[int(plain)]) == 1
