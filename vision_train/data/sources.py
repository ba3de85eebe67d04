"""Finding the samples: class folders and csv files, checked before anything is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from vision_train.data.annotations import annotations_among
from vision_train.data.class_folders import IF_CLASSES, endings_read, read_class_folders
from vision_train.data.folders import IMAGE_ENDINGS, Listing
from vision_train.data.image_section import FILES, ImageFolderSection
from vision_train.data.image_tables import FoundImages, read_csv
from vision_train.data.kind import LABELLED, REST, SPLITS
from vision_train.data.sample import ImageSample
from vision_train.data.splits import mentions_split, split_called, splits_called
from vision_train.data.toy.digits import digits_samples
from vision_train.data.toy.mnist import mnist_samples
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.wording import first_named

_IF_POOLED = "If they are no splits, put all of them into one folder inside data.root, or rename them"


def read_samples(
    data: ImageFolderSection, *, divided: bool = True, labelled: bool = True, declared: Collection[str] = ()
) -> FoundImages:
    """List the samples that a recipe's ``data`` names.

    Args:
        data: What to read.
        divided: As for :func:`read_folder`.
        labelled: Whether every image needs a label. Without, folders say nothing but their split; labels of a csv and
            of scans stay with the images that have one.
        declared: Names that are those of classes, whatever they look like, besides ``data.classes``.

    Raises:
        UserError: Something is missing, empty, listed twice or contradictory; the message names it.
    """
    if data.source != FILES:
        return FoundImages(digits_samples() if data.source == "digits" else mnist_samples())
    root = _image_root(data)
    declared = {*declared, *(data.classes or ())}
    if data.labels is not None:
        return read_csv(Path(data.labels), root, data.on_bad, labelled=labelled, declared=declared)
    assert root is not None
    if not labelled:
        return read_pool(root, divided=divided)
    return read_folder(root, divided=divided, declared=declared, pool=_pool_inside(data, root))


def _image_root(data: ImageFolderSection) -> Path | None:
    """The folder that holds the images; None where the folder of the csv does."""
    root = None if data.root is None else Path(data.root)
    if root is not None and not root.is_dir():
        wrong = "is not a folder" if root.exists() else "no such folder"
        raise UserError(f"data.root {root}: {wrong}; say where the images are with data.root=FOLDER")
    if root is None and data.labels is None:
        raise UserError("no images named; set data.root=FOLDER, or data.labels=FILE.csv")
    return root


def _pool_inside(data: ImageFolderSection, root: Path) -> Path | None:
    """The folder of unlabelled images where it lies below that of labelled ones, and so would be taken for a class.

    A folder that is called like a split is none: it may well hold labelled images, which are meant again.
    """
    named = getattr(data, "unlabelled", None)
    if named in (None, REST, LABELLED) or not Path(named).is_dir():
        return None
    folder = Path(named).resolve()
    return folder if root.resolve() in folder.parents and not split_called(folder.name) else None


def list_images_in(root: Path, pool: Path | None = None) -> Listing:
    """List images by the rule that all verbs share, without those of a folder of unlabelled ones."""
    return Listing(root, IMAGE_ENDINGS, "images", pool)


def read_folder(
    root: Path, *, divided: bool = True, declared: Collection[str] = (), pool: Path | None = None
) -> FoundImages:
    """Read ``root/CLASS/...`` or ``root/SPLIT/CLASS/...``; images may lie deeper inside a class folder.

    ``root`` is divided into splits where every folder in it is called like one
    (:func:`vision_train.data.splits.splits_called`). An image's id is its path below ``root``.

    Args:
        root: The folder.
        divided: Whether the samples are to be divided for training. Data that is evaluated need not hold a folder for
            training.
        declared: Folders of these names are classes, whatever they look like.
        pool: A folder below ``root`` that is no class, as its images are the unlabelled ones; None for none.

    Raises:
        UserError: No class folders, an empty one, or folders that fit neither layout.
    """
    listing = list_images_in(root, pool)
    splits = _split_folders(root, listing, declared, divided=divided)
    samples: list[ImageSample] = []
    for split, folder in splits.items():
        samples += read_class_folders(folder, root, split, listing, declared)
    if None not in splits:
        listing.leave_beside(root)
    return FoundImages(samples, [*_renamed(splits), *_deeper(samples, splits), *listing.notes()])


def read_pool(root: Path, *, divided: bool = True) -> FoundImages:
    """Read every image below ``root``, or below each of the folders of splits, whatever other folders are called.

    Args:
        root: The folder.
        divided: As for :func:`read_folder`.

    Raises:
        UserError: No image, or folders for validation or test without one for training or beside others.
    """
    listing = list_images_in(root)
    splits = _split_folders(root, listing, divided=divided, otherwise=_IF_POOLED)
    if None not in splits and (loose := listing.files(root)):
        names = [folder.name for folder in splits.values()]
        raise UserError(
            f"{printable(str(loose[0]))}: lies beside the folders {' and '.join(names)}; move it and its like into one "
            "of them"
        )
    samples = [
        ImageSample(file.relative_to(root).as_posix(), str(file), split=split)
        for split, folder in splits.items()
        for file in listing.below(folder, set())
    ]
    notes = [*_renamed(splits), *listing.notes(), *_beside_images(samples, root)]
    if not samples:
        raise UserError("; ".join([f"{root}: no images in it ({endings_read()})", *listing.notes()]))
    return FoundImages(samples, notes)


def _beside_images(samples: list[ImageSample], root: Path) -> list[str]:
    """Say which pictures of a pool are called like masks of others."""
    if not (found := annotations_among((Path(sample.place) for sample in samples), root)):
        return []
    named = first_named([f"{name} ({count:,})" for name, count in found.items()])
    return [
        "pictures that are called like masks, labels or small copies of others count as images: "
        f"{named}; if they are none, move them out of data.root"
    ]


def _split_folders(
    root: Path, listing: Listing, declared: Collection[str] = (), *, divided: bool, otherwise: str = IF_CLASSES
) -> dict[str | None, Path]:
    """The folder of each split, in the order of splits; ``root`` itself, without a split, where nothing divides it.

    Args:
        root: The folder.
        listing: Lists it.
        declared: Folders of these names are no splits.
        divided: As for :func:`read_folder`.
        otherwise: What messages tell those whose folders are no splits.
    """
    names = [folder.name for folder in listing.folders(root)]
    found = splits_called([name for name in names if name not in declared])
    split_of = dict(sorted(found.items(), key=lambda item: SPLITS.index(item[1])))
    if not split_of:
        _refuse_mentioned(root, names, declared, otherwise)
        return {None: root}
    if others := [name for name in names if name not in split_of and _holds_data(root / name)]:
        raise UserError(
            f"{root}: holds {' and '.join(split_of)} and also {first_named(others)}. Beside folders of splits no other "
            f"folder may lie; rename or move the rest. {otherwise}"
        )
    folders: dict[str | None, Path] = {}
    for split in SPLITS:
        called = [name for name, stands_for in split_of.items() if stands_for == split]
        if len(called) > 1:
            named = " and ".join(called)
            raise UserError(f"{root}: {named} all stand for {split}; merge them, or rename one. {otherwise}")
        if called:
            folders[split] = root / called[0]
    if divided and "train" not in folders:
        raise UserError(f"{root}: holds {' and '.join(split_of)}, but no folder train to learn from. {otherwise}")
    return folders


def _refuse_mentioned(root: Path, names: list[str], declared: Collection[str], otherwise: str) -> None:
    """Refuse folders that all have a split in their names, though none can be told to stand for one."""
    mentioned = [name for name in names if name not in declared and mentions_split(name)]
    if len(mentioned) > 1 and not any(_holds_data(root / name) for name in names if name not in mentioned):
        raise UserError(
            f"{printable(str(root))}: {first_named(mentioned)} have splits in their names, but are not called like "
            f"one. If they are splits, call them train, val and test. {otherwise}"
        )


def _holds_data(folder: Path) -> bool:
    """Whether a folder is anything but a place where this program put its runs and pictures."""
    listing = list_images_in(folder.parent)
    return bool(listing.below(folder, set())) or not listing.holds_outputs(folder)


def _renamed(splits: dict[str | None, Path]) -> list[str]:
    """Say which folder was taken as which split, where it is called otherwise."""
    taken = [f"{folder.name} as {split}" for split, folder in splits.items() if split and folder.name != split]
    return [f"folders of splits: {', '.join(taken)} ({', '.join(map(str, splits))})"] if taken else []


def _deeper(samples: list[ImageSample], splits: dict[str | None, Path]) -> list[str]:
    """Say which folders inside class folders hold images of the class."""
    depth = 1 if None in splits else 2
    below = Counter(parts[depth] for sample in samples if len(parts := sample.id.split("/")) > depth + 1)
    if not below:
        return []
    named = first_named([f"{name} ({count:,})" for name, count in below.most_common()])
    return [f"images in folders inside class folders count as images of the class: {named}"]
