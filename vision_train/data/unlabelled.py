"""The pool: samples to learn from without their labels, from ``data.unlabelled``.

Nothing that a pool's files say of their classes reaches a training: no label is read, and the order of the samples,
which decides how they are shuffled and augmented, does not depend on the folders that they lie in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from vision_train.data.content import CONTENTS
from vision_train.data.image_tables import listed_files
from vision_train.data.kind import LABELLED, REST
from vision_train.data.module import POOL_SPLIT, PSEUDO_SPLIT, Stream
from vision_train.data.pseudo_labels import with_pseudo_labels
from vision_train.data.sample import ImageSample, Sample
from vision_train.data.sources import list_images_in
from vision_train.data.stored_images import holds_stored
from vision_train.data.stored_tables import Wanted, read_stored
from vision_train.data.tables import read_text
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.recipe.recipe import Recipe
from vision_train.semi.label_file import PseudoLabel

LISTS = (".csv", ".txt")

S = TypeVar("S", bound=Sample)


def unlabelled_splits(
    section: Any,
    labelled: Sequence[Any],
    drawn_from: Collection[Any],
    classes: Sequence[str],
    read: Callable[[Path], Sequence[PseudoLabel]] | None = None,
) -> tuple[dict[str, list[ImageSample]], list[str]]:
    """The images of ``data.unlabelled`` without their labels, and those that ``data.pseudo_labels`` has labels for.

    Args:
        section: The recipe's ``data``.
        labelled: The training samples.
        drawn_from: The training samples before some were drawn of them.
        classes: The label map.
        read: Reads the file of pseudo-labels; None for that of classes.

    Returns:
        The splits, none where no pool is named, and what the user should know of them.

    Raises:
        UserError: There are no such images, or the file does not fit them.
    """
    named = section.unlabelled
    if named is None:
        return {}, []
    found, notes = (None, []) if named in (REST, LABELLED) else list_pool(named)
    chosen = choose_pool(named, found, labelled, drawn_from)
    pool = [ImageSample(sample.id, sample.image) for sample in chosen]
    if section.pseudo_labels is None:
        return {POOL_SPLIT: pool}, notes
    people = [] if named == LABELLED else labelled
    taken, told = with_pseudo_labels(Path(section.pseudo_labels), pool, people, classes, read)
    return {POOL_SPLIT: pool} | ({PSEUDO_SPLIT: taken} if taken else {}), [*notes, *told]


def streams_of(recipe: Recipe, splits: Collection[str]) -> dict[str, Any]:
    """The streams of a data module and what its epochs are as long as: keyword arguments of ``SampleDataModule``.

    Args:
        recipe: Says whether training steps draw from the pool.
        splits: Names of the splits that :func:`unlabelled_splits` found.
    """
    if not splits:
        return {}
    unlabelled = Stream(POOL_SPLIT, max(1, round(recipe.semi.ratio * recipe.data.batch_size)))
    streams = None
    if recipe.semi.uses_pool_in_steps:
        streams = {LABELLED: Stream("train", recipe.data.batch_size), POOL_SPLIT: unlabelled}
    elif PSEUDO_SPLIT in splits:
        beside = Stream(PSEUDO_SPLIT, unlabelled.batch_size)
        streams = {LABELLED: Stream("train", recipe.data.batch_size), PSEUDO_SPLIT: beside}
    return {"streams": streams, "epoch_of": unlabelled}


def choose_pool(named: str, found: Sequence[S] | None, labelled: Sequence[S], drawn_from: Collection[S]) -> list[S]:
    """The samples that ``data.unlabelled`` means, in an order of their own; their truth is still theirs.

    Args:
        named: Its value.
        found: What was listed where it names files.
        labelled: The training samples.
        drawn_from: The training samples before some were drawn of them.

    Raises:
        UserError: There are none.
    """
    if named == LABELLED:
        return in_fixed_order(labelled)
    if named == REST:
        drawn = {sample.id for sample in labelled}
        found = [sample for sample in drawn_from if sample.id not in drawn]
        if not found:
            raise UserError(
                "data.unlabelled=rest: no training images are left, since all of them are labelled ones; set "
                "data.labels_per_class, or data.share where there is such a key, or name samples of another place"
            )
    return in_fixed_order(found or [])


def list_pool(named: str) -> tuple[list[ImageSample], list[str]]:
    """List the images of a folder, a csv with the column ``path`` or a text file with a path a line.

    Returns:
        The images, without labels, and what the user should know of them.

    Raises:
        UserError: There is no such place, or no image in it.
    """
    place = Path(named)
    shown = f"data.unlabelled={printable(named)}"
    if place.is_dir():
        listing = list_images_in(place)
        samples = [ImageSample(file.relative_to(place).as_posix(), str(file)) for file in listing.below(place, set())]
        notes = listing.notes()
        if not samples and holds_stored(place):
            found = read_stored(place, "error", Wanted(labelled=False))
            return found.samples, [f"{shown}: {note}" for note in found.notes]
    elif not place.exists():
        raise UserError(f"{shown}: no such folder or list; name a folder of images, a csv or txt file, or `rest`")
    elif place.suffix.lower() not in LISTS:
        raise UserError(f"{shown}: is neither a folder nor a list; a list ends in {' or '.join(LISTS)}")
    else:
        try:
            samples, notes = _of_table(place) if place.suffix.lower() == ".csv" else (_of_lines(place), [])
        except UserError as error:
            raise UserError(f"data.unlabelled: {error}") from error
    if not samples:
        raise UserError("; ".join([f"{shown}: no images in it; name a folder or list of images", *notes]))
    return samples, [f"{shown}: {note}" for note in notes]


def _of_table(table: Path) -> tuple[list[ImageSample], list[str]]:
    files, notes = listed_files(table, None)
    return [ImageSample(name, path) for name, path in {file.name: file.path for file in files}.items()], notes


def _of_lines(place: Path) -> list[ImageSample]:
    lines = [line.strip() for line in read_text(place).splitlines()]
    names = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    for name in names:
        if not (place.parent / name).is_file():
            raise UserError(
                f"{place}: lists {printable(name)}, and there is no such file; name files by paths relative to the list"
            )
    return [ImageSample(name, str(place.parent / name)) for name in names]


def in_fixed_order(samples: Sequence[S]) -> list[S]:
    """Samples in the order of a hash of their files' names, whatever folders they are in.

    Files of one name are told apart by their content.
    """
    names = [PurePosixPath(sample.id).name if sample.file else sample.id for sample in samples]
    counts = Counter(names)
    alike = [sample for sample, name in zip(samples, names, strict=True) if counts[name] > 1]
    marks = dict(zip([sample.id for sample in alike], CONTENTS.marks(alike), strict=True))
    keys = [(_digest(name), marks.get(sample.id) or "") for sample, name in zip(samples, names, strict=True)]
    return [samples[place] for place in sorted(range(len(samples)), key=keys.__getitem__)]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
