"""Bags to train on: features, labels and splits brought together, and what does not fit named and counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from vision_train.data.bags.bag import Bag, BagEntry
from vision_train.data.bags.ids import match_tables
from vision_train.data.bags.index import BagIndex
from vision_train.data.bags.tables import Labels, SlideLabel
from vision_train.data.dataset import SKIP_BAD, OnBad
from vision_train.data.labels import is_missing, several_in_one
from vision_train.data.sample import file_identity
from vision_train.errors import UserError
from vision_train.files import MOST_NAMED, first_named


@dataclass(frozen=True, slots=True)
class BagSample:
    """One bag and what is known about it."""

    id: str
    """Unique in the data set."""
    bag: BagEntry | Bag
    """Where it lies, or the bag itself."""
    truth: str | None = None
    """Name of the class; None where unknown."""
    group: str | None = None
    """Patient or specimen, whose bags stay in one split; None for a case of its own."""
    split: str | None = None
    """`train`, `val` or `test`; None where the source does not say."""

    @property
    def place(self) -> str:
        """Path of the file, and the group in it; empty for a bag in memory."""
        if isinstance(self.bag, Bag):
            return ""
        return f"{self.bag.path}:{self.bag.group}" if self.bag.group else str(self.bag.path)

    @property
    def file(self) -> str | None:
        """Path of the file; None for a bag in memory, and for one of several in a file."""
        return None if isinstance(self.bag, Bag) or self.bag.group else str(self.bag.path)

    @property
    def identity(self) -> str:
        """The same for the same bag, whatever list names it: the file that its path leads to, or its id."""
        if isinstance(self.bag, Bag):
            return self.id
        return f"{file_identity(self.bag.path)}:{self.bag.group}"


@dataclass(frozen=True, slots=True)
class FeatureKind:
    """What kind of features a network learns from, or is given; None where nothing says."""

    width: int | None
    """Features of an instance."""
    encoder: str | None
    """What computed them."""


@dataclass(frozen=True)
class JoinedBags:
    """What can be used of what was asked for, and what was left out."""

    samples: list[BagSample]
    skipped: dict[str, str] = field(default_factory=dict)
    """Why bags that were asked for are left out, by id; empty unless the policy is to skip."""
    unlabelled: list[str] = field(default_factory=list)
    """Bags that no table lists."""
    unsplit: list[str] = field(default_factory=list)
    """Labelled bags that the file of splits does not list."""
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
    splits: Mapping[str, str] | None = None,
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
        splits: Split by id; None takes those of the labels.
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
    asked = listed if splits is None else list(splits)
    bad = _objections(asked, index, labels, labelled)
    if labelled:
        bad |= _unlabelled(asked, index, labels, declared)
    samples = [_sample(index.entries[bag_id], labels, splits) for bag_id in asked if bag_id not in bad]
    bad |= _misfits([index.entries[sample.id] for sample in samples])
    if bad and on_bad == "error":
        raise bad_bags(bad, skip_with)
    samples = [sample for sample in samples if sample.id not in bad]
    if not samples:
        raise UserError(f"{index.root}: no bag is left. {'; '.join(_reasons(bad))}")
    unlabelled, unsplit = sorted({*known} - {*listed, *asked}), sorted({*listed} - {*asked})
    return JoinedBags(samples, bad, unlabelled, unsplit, index.notes + remarks)


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


def map_labels(samples: list[BagSample], label_map: Mapping[str, str]) -> list[BagSample]:
    """Replace the labels of a table by names of classes; several labels may become one class.

    Raises:
        UserError: The map lacks labels that occur.
    """
    unknown: dict[str, list[str]] = {}
    for sample in samples:
        if sample.truth is not None and sample.truth not in label_map:
            unknown.setdefault(sample.truth, []).append(sample.id)
    if unknown:
        listed = "; ".join(f"`{label}` of {first_named(ids)}" for label, ids in unknown.items())
        raise UserError(f"data.label_map does not say what becomes of the label {listed}")
    return [s if s.truth is None else replace(s, truth=str(label_map[s.truth])) for s in samples]


def feature_kind(samples: Iterable[BagSample]) -> FeatureKind:
    """What the features of bags are that were found to agree (:func:`join_bags`), or that are in memory."""
    encoder, width = None, None
    for sample in samples:
        width = sample.bag.features.shape[1] if isinstance(sample.bag, Bag) else sample.bag.width
        encoder = encoder or sample.bag.encoder
    return FeatureKind(width, encoder)


def check_feature_kind(found: FeatureKind, learned: FeatureKind, learner: str = "the network") -> None:
    """Compare the features of bags with those that a network was trained on.

    Args:
        found: Of the bags.
        learned: Of the bags that the network was trained on.
        learner: What the message calls the network.

    Raises:
        UserError: Both say their width or their encoder, and it is another.
    """
    if None not in (found.width, learned.width) and found.width != learned.width:
        raise UserError(f"the bags have {found.width} features an instance, but {learner} learned from {learned.width}")
    if None not in (found.encoder, learned.encoder) and found.encoder != learned.encoder:
        raise UserError(
            f"the features are those of the encoder {found.encoder}, but {learner} learned from those of "
            f"{learned.encoder}, and numbers of one mean nothing to the other; embed the slides with {learned.encoder}"
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


def _unlabelled(
    asked: Iterable[str], index: BagIndex, labels: Labels | None, declared: Collection[str]
) -> dict[str, str]:
    """Bags whose label says that there is none.

    Raises:
        UserError: Labels name several classes each.
    """
    written = {bag_id: label for bag_id in asked if (label := _label_of(bag_id, index, labels)) is not None}
    if several := several_in_one(set(written.values()), declared):
        named = first_named([f"`{label}` of {bag_id}" for bag_id, label in written.items() if label in several])
        raise UserError(
            f"labels that name several classes each: {named}. A bag has one label here; several a bag cannot be "
            "trained on. Keep one label each. If they name one class, name all classes with data.classes=[NAME,...]"
        )
    return {
        bag_id: f"label `{label}`, which means that there is none; if it is a class, name all with data.classes"
        for bag_id, label in written.items()
        if is_missing(label, declared)
    }


def _label_of(bag_id: str, index: BagIndex, labels: Labels | None) -> str | None:
    if labels is not None:
        return labels.slides[bag_id].label if bag_id in labels.slides else None
    return index.entries[bag_id].label if bag_id in index.entries else None


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


def _sample(entry: BagEntry, labels: Labels | None, splits: Mapping[str, str] | None) -> BagSample:
    slide = SlideLabel(entry.label or "") if labels is None else labels.slides.get(entry.id, SlideLabel(""))
    split = slide.split if splits is None else splits[entry.id]
    return BagSample(entry.id, entry, slide.label or None, slide.case, split)


def _reasons(bad: Mapping[str, str]) -> list[str]:
    """Each reason once, after the first ten ids that have it and their count."""
    ids: dict[str, list[str]] = {}
    for bag_id, reason in bad.items():
        ids.setdefault(reason, []).append(bag_id)
    return [f"{first_named(named)}: {reason}" for reason, named in ids.items()]
