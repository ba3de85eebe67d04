"""Expressions without boxes, of a csv or of the training samples; and the boxes that networks gave them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from vision_train.data.box_labels import read_box_labels
from vision_train.data.image_tables import listed_files
from vision_train.data.kind import LABELLED, REST
from vision_train.data.module import POOL_SPLIT, PSEUDO_SPLIT
from vision_train.data.phrases import Section
from vision_train.data.phrases.annotations import GivenBox, PhraseSample
from vision_train.data.phrases.texts import quoted
from vision_train.data.pseudo_labels import REMEDY, with_pseudo_labels
from vision_train.data.sample import ImageSample
from vision_train.data.unlabelled import choose_pool
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.semi.box_labels import BoxLabel
from vision_train.wording import count_of


def told_in(table: Path) -> tuple[list[PhraseSample], list[str]]:
    """Expressions of a csv with the columns ``path,text``, and what the user should know of them.

    No other column is read. Spaces around words do not count.

    Raises:
        UserError: The table cannot be read, lists an image that is not there, or has a line without an expression.
    """
    files, notes = listed_files(table, None, "text")
    samples, told = [], Counter[str]()
    for file in files:
        text = " ".join(file.cells["text"].split())
        if not text:
            raise UserError(f"{table} line {file.line}: the text is empty; write an expression, or drop the line")
        told[file.path] += 1
        samples.append(asked(file.path, told[file.path], text))
    return samples, notes


def asked(path: str, number: int, text: str) -> PhraseSample:
    """An expression about the image of a file, the so-many-th about it."""
    return PhraseSample(f"{path}#{number}", path, None, None, path, text)


def pool_of(
    section: Section, labelled: Sequence[PhraseSample], drawn_from: Collection[PhraseSample]
) -> tuple[list[PhraseSample], list[str]]:
    """The expressions of ``data.unlabelled`` without their boxes, and what the user should know of them.

    What people have labelled is no part of a csv's pool, whatever it lists.

    Args:
        section: The recipe's ``data``.
        labelled: The training samples.
        drawn_from: The training samples before some were drawn of them.

    Raises:
        UserError: There are none.
    """
    named, notes, found = section.unlabelled, list[str](), None
    if named is None:
        return [], []
    if named not in (REST, LABELLED):
        found, notes = _of_table(named, labelled)
    chosen = choose_pool(named, found, labelled, drawn_from)
    return [replace(sample, truth=None, split=None, letters="") for sample in chosen], notes


def _of_table(named: str, labelled: Sequence[PhraseSample]) -> tuple[list[PhraseSample], list[str]]:
    place, shown = Path(named), f"data.unlabelled={printable(named)}"
    if place.suffix.lower() != ".csv":
        raise UserError(
            f"{shown}: is no csv; an image says nothing without an expression, so name a csv with the columns "
            "path,text, or `rest`"
        )
    if not place.is_file():
        raise UserError(f"{shown}: no such file; name a csv with the columns path,text, or `rest`")
    known = {_said(sample) for sample in labelled}
    try:
        told, notes = told_in(place)
    except UserError as error:
        raise UserError(f"data.unlabelled: {error}") from error
    left = [(said, sample) for sample in told if (said := _said(sample)) not in known]
    if not left:
        what = "all its expressions are labelled ones" if told else "no lines below the header"
        raise UserError(f"{shown}: {what}; list expressions without boxes")
    if lost := len(told) - len(left):
        notes.append(f"left out, as labelled ones say the same: {count_of(lost, 'expressions')}")
    first: dict[tuple[str, str], PhraseSample] = {}
    copies = [sample for said, sample in left if first.setdefault(said, sample) is not sample]
    if copies:
        example = f"{quoted(copies[0].text)} of {printable(copies[0].place or copies[0].id)}"
        told_twice = count_of(len(copies), "expressions")
        notes.append(f"left out, as a line before says the same of the image: {told_twice}, such as {example}")
    return [*first.values()], [f"{shown}: {note}" for note in notes]


def _said(sample: PhraseSample) -> tuple[str, str]:
    """What is said of which image, by which two expressions are the same: networks read small letters."""
    return sample.identity, sample.text.casefold()


def splits_of_pool(section: Section, pool: Sequence[PhraseSample]) -> dict[str, list[ImageSample]]:
    """The pool, and those of it that ``data.pseudo_labels`` has a box for.

    Raises:
        UserError: The file cannot be read, or does not fit the pool.
    """
    if not pool:
        return {}
    if section.pseudo_labels is None:
        return {POOL_SPLIT: [*pool]}
    file = Path(section.pseudo_labels)
    labels = read_box_labels(file)
    texts = {sample.id: sample.text for sample in pool}
    said = {name for label in labels for name in label.named}  # texts, each of which is looked at with its sample
    labelled, _ = with_pseudo_labels(file, pool, [], sorted(said), lambda _: labels)
    taken = [replace(sample, truth=_given(sample.truth, texts[sample.id], file)) for sample in labelled]
    splits: dict[str, list[ImageSample]] = {POOL_SPLIT: [*pool]}
    return splits | ({PSEUDO_SPLIT: taken} if taken else {})


def _given(label: BoxLabel, text: str, file: Path) -> GivenBox:
    place = f"data.pseudo_labels {file}: {printable(label.id)}"
    if len(label.boxes) != 1:
        raise UserError(f"{place} has {len(label.boxes)} boxes, and an expression means one; {REMEDY}")
    box = label.boxes[0]
    if box.label.lower() != text.lower():  # networks read small letters
        raise UserError(f"{place} is {quoted(text)} in data.unlabelled and {quoted(box.label)} here; {REMEDY}")
    return GivenBox(box.corners, box.weight)
