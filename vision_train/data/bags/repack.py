"""Bringing a folder of bags into the layout that reads fastest, whatever they are read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vision_train.data.bags.bag import BagEntry, describe_bag
from vision_train.data.bags.formats import open_bag
from vision_train.data.bags.index import BagIndex
from vision_train.data.bags.samples import bad_bags
from vision_train.data.bags.stored import COORDS, LABEL, BadBagError, StoredArray, StoredBag
from vision_train.data.bags.writing import STORED_AS, write_bag
from vision_train.data.dataset import OnBad
from vision_train.errors import UserError
from vision_train.files import check_writable


@dataclass(frozen=True, slots=True)
class Repacked:
    """What became of one bag."""

    id: str
    kept: bool = False
    """It was there already, complete, of this source and no older than it."""
    skipped: str | None = None
    """Why it could not be read."""


def repack_bags(
    index: BagIndex, folder: Path, on_bad_bag: OnBad = "error", skip_with: str = "give --on-bad-bag skip"
) -> Iterator[Repacked]:
    """Write each bag to ``folder/ID.h5``: features and coordinates in the type they have, attributes and label.

    What stands beside the features comes into the same file: CLAM's or TRIDENT's patches, and the encoder that a folder
    is named after. The features are called ``features``, whatever they were called. Arrays of text are left out. Which
    file a bag is of is recorded in it: a command that was stopped goes on where it was, and bags of other files are
    replaced.

    Args:
        index: Of the bags to write.
        folder: Where to; is created.
        on_bad_bag: Whether a bag that cannot be used stops everything or is skipped.
        skip_with: What the user does to choose ``skip``, for the message.

    Returns:
        One bag after the other, as they are done. The checks that need no reading are done before the first.

    Raises:
        UserError: Bags cannot be used or read, or ``folder`` cannot be written or holds the features themselves.
    """
    if index.bad and on_bad_bag == "error":
        raise bad_bags(index.bad, skip_with)
    if any(entry.path.resolve().parent == folder.resolve() for entry in index.entries.values()):
        raise UserError(f"{folder}: is where the features are read from; name another folder to write to")
    check_writable(folder)
    return _repacked(index, folder, on_bad_bag, skip_with)


def _repacked(index: BagIndex, folder: Path, on_bad_bag: OnBad, skip_with: str) -> Iterator[Repacked]:
    folder.mkdir(parents=True, exist_ok=True)
    yield from (Repacked(bag_id, skipped=reason) for bag_id, reason in index.bad.items())
    for entry in index.entries.values():
        file = folder / f"{entry.id}.h5"
        if _is_done(entry, file):
            yield Repacked(entry.id, kept=True)
            continue
        try:
            _repack(entry, file)
        except BadBagError as error:
            if on_bad_bag == "error":
                raise bad_bags({entry.id: str(error)}, skip_with) from error
            yield Repacked(entry.id, skipped=str(error))
        else:
            yield Repacked(entry.id)


def _is_done(entry: BagEntry, file: Path) -> bool:
    sources = {entry.path, entry.coords or entry.path}
    if not file.is_file() or any(file.stat().st_mtime_ns < source.stat().st_mtime_ns for source in sources):
        return False
    try:
        with open_bag(file) as stored:
            found = describe_bag(stored, file, "", entry.id, None)
            features = (found.instances, found.width, found.dtype, found.encoder)
            return features == (entry.instances, entry.width, STORED_AS[entry.dtype], entry.encoder) and all(
                stored.fact(name) == value for name, value in _origin(entry).items()
            )
    except BadBagError:
        return False


def _repack(entry: BagEntry, file: Path) -> None:
    with ExitStack() as stack:
        stored = stack.enter_context(open_bag(entry.path, entry.group))
        arrays = {name: array for name, array in stored.arrays.items() if array.dtype in STORED_AS}
        features = arrays.pop(stored.features_name)
        arrays = {"features": replace(features, attributes=_with(features, encoder=entry.encoder)), **arrays}
        if entry.coords is not None:
            coords = arrays.get(COORDS)
            if coords is None:
                coords = stack.enter_context(open_bag(entry.coords)).arrays[COORDS]
            arrays[COORDS] = replace(coords, attributes=_with(coords, patch_size_level0=entry.patch_size_level0))
        label = {} if LABEL in arrays or entry.label is None else {LABEL: entry.label}
        write_bag(file, StoredBag(arrays, {**label, **stored.attributes, **_origin(entry)}))


def _origin(entry: BagEntry) -> dict[str, Any]:
    """Tells a source from another one that holds a bag of the same id, mostly, wherever both were moved together."""
    path = entry.path.resolve()
    return {"repacked_from": f"{path.parent.name}/{path.name}", "repacked_bytes": path.stat().st_size}


def _with(array: StoredArray, **facts: Any) -> Mapping[str, Any]:
    """The attributes of an array, and what is known besides."""
    return {**array.attributes, **{name: value for name, value in facts.items() if value is not None}}
