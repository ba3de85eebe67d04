"""Features, labels and splits of bags brought together, and what does not fit named and counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from vision_train.data.bags.bag import BagEntry
from vision_train.data.bags.ids import match_tables
from vision_train.data.bags.index import BagIndex
from vision_train.data.bags.samples import BagSample
from vision_train.data.bags.tables import Labels, SlideSplits
from vision_train.data.kind import SKIP_BAD, OnBad
from vision_train.data.labels import is_missing, labels_were_floats, several_in_one, whole_numbers
from vision_train.errors import UserError
from vision_train.wording import MOST_NAMED, first_named


@dataclass(frozen=True)
class JoinedBags:
    """What can be used of what was asked for, and what was left out."""

    samples: list[BagSample]
    skipped: dict[str, str] = field(default_factory=dict)
    """Why bags that were asked for are left out, by id; empty unless the policy is to skip."""
    unlabelled: list[str] = field(default_factory=list)
    """Bags that no table lists."""
    unsplit: list[str] = field(default_factory=list)
    """Labelled bags that are in no split, though others are in one."""
    remarks: list[str] = field(default_factory=list)
    """How folders and tables were read."""

    def notes(self) -> list[str]:
        """A sentence for each kind of bag that is left out, with its count and the first ten ids."""
        notes = [*self.remarks, *(f"skipped {reason}" for reason in _reasons(self.skipped))]
        if self.unlabelled:
            notes.append(f"left out, as they have no label: {first_named(self.unlabelled)}")
        if self.unsplit:
            notes.append(f"left out, as they are in no split: {first_named(self.unsplit)}")
        return notes


def join_bags(
    index: BagIndex,
    labels: Labels | None = None,
    splits: SlideSplits | None = None,
    on_bad: OnBad = "error",
    *,
    labelled: bool = True,
    declared: Collection[str] = (),
    skip_with: str = SKIP_BAD,
) -> JoinedBags:
    """Bring features, labels and splits together by id (:mod:`vision_train.data.bags.ids`).

    The splits say which bags are asked for; without them the labels do, and without those the index. Bags that nobody
    asked for are left out, however bad they are.

    Args:
        index: Of the features.
        labels: Of a table; None takes those that the files of features hold.
        splits: Of a file; None takes those of the labels.
        on_bad: Whether a bag that is asked for and cannot be used stops everything or is skipped and counted. One
            counts as bad too where its features have another width or encoder than most.
        labelled: Whether every bag needs a label.
        declared: Labels that name a class, whatever they look like.
        skip_with: What the user does to choose ``skip``, for the message.

    Raises:
        UserError: Bags cannot be used, or none is left.
    """
    known = sorted({*index.entries, *index.bad})
    labels, splits, remarks = match_tables(known, labels, splits)
    listed = known if labels is None else [*labels.slides, *labels.bad]
    asked, split_of = _asked_for(listed, labels, splits)
    truths, floats = _truths(asked, index, labels, declared)
    bad = _objections(asked, index, labels, labelled) | (_unlabelled(truths, declared) if labelled else {})
    bad |= _misfits([index.entries[bag_id] for bag_id in asked if bag_id not in bad])
    if bad and on_bad == "error":
        raise bad_bags(bad, skip_with)
    cases = {} if labels is None else {bag_id: slide.case for bag_id, slide in labels.slides.items()}
    samples = [
        BagSample(bag_id, index.entries[bag_id], truths.get(bag_id) or None, cases.get(bag_id), split_of.get(bag_id))
        for bag_id in asked
        if bag_id not in bad
    ]
    if not samples:
        raise UserError(f"{index.root}: no bag is left. {'; '.join(_reasons(bad))}")
    remarks = [*index.notes, *(labels.notes if labels else []), *remarks, *floats]
    return JoinedBags(samples, bad, sorted({*known} - {*listed, *asked}), sorted({*listed} - {*asked}), remarks)


def _asked_for(
    listed: list[str], labels: Labels | None, splits: SlideSplits | None
) -> tuple[list[str], Mapping[str, str]]:
    """Bags that are asked for, and the split of each that is in one.

    Where some are in a split, those in none are not asked for. Of slides whose labels are bad the split is unknown.
    """
    if splits is not None:
        return [*splits.slides], splits.slides
    slides = {} if labels is None else labels.slides
    split_of = {bag_id: slide.split for bag_id, slide in slides.items() if slide.split is not None}
    outside = slides.keys() - split_of.keys() if split_of else set()
    return [bag_id for bag_id in listed if bag_id not in outside], split_of


def _truths(
    asked: Iterable[str], index: BagIndex, labels: Labels | None, declared: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """The label of each bag that has one, whole numbers told from floats, and what is to be said of that."""
    if labels is not None:
        held = {bag_id: slide.label for bag_id, slide in labels.slides.items()}
    else:
        held = {bag_id: entry.label for bag_id, entry in index.entries.items() if entry.label is not None}
    written = {bag_id: held[bag_id] for bag_id in asked if bag_id in held}
    whole = whole_numbers({*written.values()}, declared)
    truths = {bag_id: whole.get(label, label) for bag_id, label in written.items()}
    return truths, [labels_were_floats(whole)] if whole else []


def bad_bags(bad: Mapping[str, str], skip_with: str = SKIP_BAD, *, shared: bool = False) -> UserError:
    """The error about bags that cannot be used.

    Args:
        bad: The reason of each, by id.
        skip_with: What the user does to have such bags skipped.
        shared: Whether every process raises it.
    """
    reasons = _reasons(bad)
    more = f"; and {len(reasons) - MOST_NAMED} more reasons" if len(reasons) > MOST_NAMED else ""
    return UserError(
        f"{len(bad)} bag(s) cannot be used. {'; '.join(reasons[:MOST_NAMED])}{more}. Mend them, or {skip_with}",
        shared=shared,
    )


def _objections(asked: Iterable[str], index: BagIndex, labels: Labels | None, labelled: bool) -> dict[str, str]:
    if labelled and labels is None and not any(entry.label for entry in index.entries.values()):
        raise UserError(f"{index.root}: the features come without labels; name them with data.labels=FILE.csv")
    bad: dict[str, str] = {}
    absent: list[str] = []
    for bag_id in asked:
        if labels is not None and bag_id in labels.bad:
            bad[bag_id] = labels.bad[bag_id]
        elif bag_id in index.bad:
            bad[bag_id] = index.bad[bag_id]
        elif bag_id not in index.entries:
            absent.append(bag_id)
        elif labelled and (bag_id not in labels.slides if labels is not None else index.entries[bag_id].label is None):
            bad[bag_id] = "no label"
    return bad | _absences(absent, index)


def _unlabelled(truths: Mapping[str, str], declared: Collection[str]) -> dict[str, str]:
    """Bags whose label says that there is none.

    Raises:
        UserError: Labels name several classes each.
    """
    if several := several_in_one(set(truths.values()), declared):
        named = first_named([f"`{label}` of {bag_id}" for bag_id, label in truths.items() if label in several])
        raise UserError(
            f"labels that name several classes each: {named}. A bag has one label here; several a bag cannot be "
            "trained on. Keep one label each. If they name one class, name all classes with data.classes=[NAME,...]"
        )
    return {
        bag_id: f"label `{label}`, which means that there is none; if it is a class, name all with data.classes"
        for bag_id, label in truths.items()
        if is_missing(label, declared)
    }


def _absences(absent: list[str], index: BagIndex) -> dict[str, str]:
    """Say that bags have no features, and where their ids lost digits on the way through a spreadsheet."""
    numbers = {number: bag_id for bag_id in index.entries if (number := _number(bag_id)) is not None}
    altered = {
        bag_id: numbers[number] for bag_id in absent if (number := _number(bag_id)) in numbers and number is not None
    }
    reasons = dict.fromkeys(absent, f"no features in {index.root}")
    if altered:
        there, here = next(iter(altered.items()))
        reason = (
            f"no features in {index.root} but of ids that are the same number, as `{here}` is to `{there}`; "
            "write ids as text, since spreadsheets drop zeros"
        )
        reasons |= dict.fromkeys(altered, reason)
    return reasons


def _number(bag_id: str) -> int | None:
    """The number that a spreadsheet makes of an id, or shows as ``7.0``; None for other ids."""
    digits = re.fullmatch(r"([0-9]+)(\.0*)?", bag_id)
    return int(digits[1]) if digits else None


def _misfits(entries: list[BagEntry]) -> dict[str, str]:
    """Bags whose width or encoder is not that of most."""
    bad: dict[str, str] = {}
    widths = Counter(entry.width for entry in entries)
    encoders = Counter(entry.encoder for entry in entries if entry.encoder is not None)
    for entry in entries:
        if len(widths) > 1 and entry.width != (usual := widths.most_common(1)[0])[0]:
            bad[entry.id] = f"{entry.width} features an instance, where {usual[1]} bag(s) have {usual[0]}"
        elif len(encoders) > 1 and entry.encoder not in (None, (named := encoders.most_common(1)[0])[0]):
            bad[entry.id] = f"features of the encoder {entry.encoder}, where {named[1]} bag(s) have those of {named[0]}"
    return bad


def _reasons(bad: Mapping[str, str]) -> list[str]:
    """Each reason once, after the first ten ids that have it and their count."""
    ids: dict[str, list[str]] = {}
    for bag_id, reason in bad.items():
        ids.setdefault(reason, []).append(bag_id)
    return [f"{first_named(named)}: {reason}" for reason, named in ids.items()]
