"""Finding the bags of a folder in any known layout, without reading their features."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from vision_train.data.bags.bag import BagEntry, check_coords, describe_bag, level0_size, patch_size_level0
from vision_train.data.bags.formats import FEATURE_ENDINGS, open_bag, open_bags
from vision_train.data.bags.stored import COORDS, BadBagError
from vision_train.data.folders import Listing, refuse_output
from vision_train.errors import UserError
from vision_train.files import printable

SLIDE_ENDINGS = (
    *(".ome.tif", ".ome.tiff"),  # before .tif and .tiff
    *(".bif", ".czi", ".dcm", ".isyntax", ".mrxs", ".ndpi", ".qptiff", ".scn", ".svs", ".svslide", ".tif", ".tiff"),
    *(".vms", ".vmu", ".vsi", ".jpeg", ".jpg", ".png"),
)
"""Endings of slide and image files. They are no part of an id."""

_TRIDENT_PATCHING = re.compile(r"[\d.]+x_\d+px_\d+px_overlap")
_TRIDENT_FEATURES = "features_"
_CLAM_FOLDERS = ("h5_files", "pt_files")
_PATCHES = "patches"


@dataclass(frozen=True)
class BagIndex:
    """Bags of a folder or file."""

    root: Path
    """The folder or file; the folder that holds all of them where there are several."""
    entries: dict[str, BagEntry] = field(default_factory=dict)
    """Bags that can be used, as far as is known before they are read, in the order of their ids."""
    bad: dict[str, str] = field(default_factory=dict)
    """Reason why a bag cannot be used, by id."""
    notes: list[str] = field(default_factory=list)
    """What was left out of the folders."""


def slide_id(name: str) -> str:
    """Id of a slide in a table or a file name: without the ending of a slide file and without invisible differences."""
    name = unicodedata.normalize("NFC", name.strip())
    ending = next((ending for ending in SLIDE_ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] or name


def index_bags(*roots: Path) -> BagIndex:
    """List the bags of folders and files.

    Known layouts are the folders that CLAM (``h5_files``, ``pt_files``) and TRIDENT (``features_ENCODER``) write,
    folders of .h5, .npy, .npz, .pt or .safetensors files, and single files, among them ACMIL's with a group for each
    bag. A folder ``patches`` in the folder of a file of features, or one or two levels further up, gives coordinates
    and patch size where the file of features lacks them, in ``ID.h5`` or ``ID_patches.h5``. CLAM's commands write
    patches and features to folders of any names; link or copy the patches to one of these places.

    Args:
        roots: At least one folder or file. A file that lies in several of them counts once.

    Returns:
        All bags. Those that cannot be used are named with the reason; the caller knows whether they are needed.

    Raises:
        UserError: A folder does not exist, holds no features or those of several encoders, or h5py is missing.
    """
    found: dict[str, list[tuple[Path, BagEntry | str]]] = {}
    files: dict[str, Path] = {}
    notes: list[str] = []
    for root in roots:
        listed, remarks = _files_of(root)
        files |= {os.path.normpath(file.absolute()): file for file in listed}
        notes += [f"{printable(str(root))}: {remark}" for remark in remarks]
    for file in files.values():
        for bag_id, bag in _bags_of(file):
            found.setdefault(bag_id, []).append((file, bag))
    common = roots[0] if len(roots) == 1 else Path(os.path.commonpath([root.absolute() for root in roots]))
    index = BagIndex(common, notes=notes)
    for bag_id, places in sorted(found.items()):
        bag = places[0][1]
        if len(places) > 1:
            index.bad[bag_id] = f"{len(places)} bags of one id: {', '.join(str(file) for file, _ in places)}"
        elif isinstance(bag, BagEntry):
            index.entries[bag_id] = bag
        else:
            index.bad[bag_id] = bag
    return index


def _files_of(root: Path) -> tuple[list[Path], list[str]]:
    """Files of features of a folder or file, and what was left out."""
    if not root.exists():
        raise UserError(f"{printable(str(root))}: no such file or folder of features")
    if root.is_file():
        refuse_output(root)
        return [root], []
    listing = Listing(root, FEATURE_ENDINGS, "files of features")
    files = _files_below(root, listing)
    if (home := files[0].parent) == root:
        listing.leave_below(home, but=_PATCHES)
    return files, listing.notes()


def _files_below(root: Path, listing: Listing) -> list[Path]:
    """Files of features below a folder; one for each bag where CLAM wrote two."""
    inside = {folder.name: folder for folder in listing.folders(root)}
    h5_files, pt_files = (listing.files(inside[name]) if name in inside else [] for name in _CLAM_FOLDERS)
    if h5_files or pt_files:
        with_coords = {_id_of(file) for file in h5_files}
        return h5_files + [file for file in pt_files if _id_of(file) not in with_coords]
    if files := listing.files(root):
        return files
    homes = [root, *(folder for name, folder in inside.items() if _TRIDENT_PATCHING.fullmatch(name))]
    encoded = [
        folder for home in homes for folder in listing.folders(home) if folder.name.startswith(_TRIDENT_FEATURES)
    ]
    features = {folder: files for folder in encoded if (files := listing.files(folder))}
    if len(features) == 1:
        return next(iter(features.values()))
    if features:
        listed = ", ".join(str(folder.relative_to(root)) for folder in sorted(features))
        raise UserError(f"{root}: holds features of several kinds: {listed}; name one of these folders instead")
    found = ", ".join(printable(entry.name) for entry in sorted(root.iterdir())[:8]) or "nothing"
    raise UserError(
        f"{printable(str(root))}: no features in it (found: {found}). It must hold files that end with "
        f"{' '.join(FEATURE_ENDINGS)}, CLAM's folders {' or '.join(_CLAM_FOLDERS)}, or TRIDENT's "
        f"{_TRIDENT_FEATURES}ENCODER. {'; '.join(listing.notes())}".rstrip()
    )


def _id_of(file: Path) -> str:
    return slide_id(file.name[: -len(file.suffix)])


def _bags_of(file: Path) -> Iterator[tuple[str, BagEntry | str]]:
    """Id of each bag of a file, with its entry or the reason why it cannot be used."""
    encoder = file.parent.name.removeprefix(_TRIDENT_FEATURES)
    try:
        with open_bags(file) as bags:
            for group, stored in bags.items():
                bag_id = slide_id(group) if group else _id_of(file)
                try:
                    entry = describe_bag(stored, file, group, bag_id, None if encoder == file.parent.name else encoder)
                    yield bag_id, _with_patches(entry)
                except BadBagError as error:
                    yield bag_id, str(error)
    except BadBagError as error:
        yield _id_of(file), str(error)


def _with_patches(entry: BagEntry) -> BagEntry:
    """Add facts from CLAM's or TRIDENT's file of patches that the file of features lacks.

    Raises:
        BadBagError: The two differ in their number of instances, or the file of patches cannot be read.
    """
    if entry.coords is not None and entry.patch_size_level0 is not None:
        return entry
    file = _patches_of(entry)
    if file is None:
        return entry
    try:
        with open_bag(file) as stored:
            if COORDS not in stored.arrays:
                raise BadBagError("no coordinates in it")
            check_coords(stored.arrays[COORDS], entry.instances)
            size = patch_size_level0(stored) if entry.patch_size_level0 is None else entry.patch_size_level0
            slide = entry.level0_size or level0_size(stored)
    except BadBagError as error:
        raise BadBagError(f"its patches {file}: {error}") from error
    return replace(entry, coords=entry.coords or file, patch_size_level0=size, level0_size=slide)


def patches_folders(features: Path) -> list[Path]:
    """Folders, existing or not, that may hold the coordinates of a file of features."""
    return [home / _PATCHES for home in features.parents[:3]]


def _patches_of(entry: BagEntry) -> Path | None:
    names = (f"{entry.id}.h5", f"{entry.id}_{_PATCHES}.h5")
    places = (folder / name for folder in patches_folders(entry.path) for name in names)
    return next((place for place in places if place.is_file() and place != entry.path), None)
