"""Copying bags of any format into the layout that is read fastest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vision_train.data.bags.bag import BagEntry, describe_bag
from vision_train.data.bags.formats import open_bag
from vision_train.data.bags.index import BagIndex
from vision_train.data.bags.join import bad_bags
from vision_train.data.bags.stored import COORDS, LABEL, BadBagError, StoredArray, StoredBag
from vision_train.data.bags.tools.writing import STORED_AS, write_bag
from vision_train.data.kind import OnBad
from vision_train.errors import UserError
from vision_train.files import check_writable


@dataclass(frozen=True, slots=True)
class Repacked:
    """Outcome for one bag."""

    id: str
    kept: bool = False
    """Whether a complete copy existed already that is no older than its source."""
    skipped: str | None = None
    """Reason why the bag could not be read."""


def repack_bags(
    index: BagIndex, folder: Path, on_bad_bag: OnBad = "error", skip_with: str = "give --on-bad-bag skip"
) -> Iterator[Repacked]:
    """Write each bag to ``folder/ID.h5``: features and coordinates in their types, attributes and label.

    The file also gets what its source keeps elsewhere: CLAM's or TRIDENT's patches, and the encoder that a folder is
    named after. The features are always called ``features``. Arrays of text are left out. Each file records its source:
    called again after an interruption, the function continues with the bags that are missing and replaces those of
    other sources.

    Args:
        index: Index of the bags to copy.
        folder: Folder to write to; it is created.
        on_bad_bag: ``error`` stops at a bag that cannot be used; ``skip`` leaves it out.
        skip_with: The option that chooses ``skip``, for the message.

    Returns:
        The outcome for each bag, as soon as it is done. Checks that read no features are made before the first.

    Raises:
        UserError: Bags cannot be used or read, or ``folder`` cannot be written or holds the features themselves.
    """
    if index.bad and on_bad_bag == "error":
        raise bad_bags(index.bad, skip_with)
    if any(entry.path.resolve().parent == folder.resolve() for entry in index.entries.values()):
        raise UserError(f"{folder}: the features are read from this folder; name another folder to write to")
    check_writable(folder, "DIR")
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
    """Facts that tell most sources from others with a bag of the same id, even after the files were moved."""
    path = entry.path.resolve()
    return {"repacked_from": f"{path.parent.name}/{path.name}", "repacked_bytes": path.stat().st_size}


def _with(array: StoredArray, **facts: Any) -> Mapping[str, Any]:
    """Attributes of an array, with further facts that are known."""
    return {**array.attributes, **{name: value for name, value in facts.items() if value is not None}}
