"""Finding the samples: class folders and csv files, checked before anything is decoded."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from vision_train.data.decode import IMAGE_ENDINGS
from vision_train.data.folders import Listing, Place, place_of
from vision_train.data.image_section import BUNDLED, ImageFolderSection
from vision_train.data.image_tables import DECLARE, FoundImages, read_csv
from vision_train.data.kind import SPLITS
from vision_train.data.labels import class_name
from vision_train.data.sample import ImageSample
from vision_train.data.splits import split_called
from vision_train.data.toy.digits import digits_samples
from vision_train.errors import UserError
from vision_train.files import first_named, printable

_DECLARE = f"If they are classes, {DECLARE}"


def read_samples(
    data: ImageFolderSection, *, divided: bool = True, labelled: bool = True, declared: Collection[str] = ()
) -> FoundImages:
    """List the samples that a recipe's ``data`` names.

    Args:
        data: What to read.
        divided: As for :func:`read_folder`.
        labelled: Whether every image needs a label. Without, folders say nothing but their split; labels of a csv and
            of the digits stay with the images that have one.
        declared: Names that are those of classes, whatever they look like, besides ``data.classes``.

    Raises:
        UserError: Something is missing, empty, listed twice or contradictory; the message names it.
    """
    if data.source == BUNDLED:
        return FoundImages(digits_samples())
    root = _image_root(data)
    declared = {*declared, *(data.classes or ())}
    if data.labels is not None:
        return read_csv(Path(data.labels), root, data.on_bad, labelled=labelled, declared=declared)
    assert root is not None
    return read_folder(root, divided=divided, declared=declared) if labelled else read_pool(root, divided=divided)


def _image_root(data: ImageFolderSection) -> Path | None:
    """The folder that holds the images; None where the folder of the csv does."""
    root = None if data.root is None else Path(data.root)
    if root is not None and not root.is_dir():
        wrong = "is not a folder" if root.exists() else "no such folder"
        raise UserError(f"data.root {root}: {wrong}; say where the images are with data.root=FOLDER")
    if root is None and data.labels is None:
        raise UserError("no images named; set data.root=FOLDER, or data.labels=FILE.csv")
    return root


def list_images_in(root: Path) -> Listing:
    """List images by the rule that all verbs share."""
    return Listing(root, IMAGE_ENDINGS, "images")


def read_folder(root: Path, *, divided: bool = True, declared: Collection[str] = ()) -> FoundImages:
    """Read ``root/CLASS/...`` or ``root/SPLIT/CLASS/...``; images may lie deeper inside a class folder.

    ``root`` is divided into splits where every folder in it is called like one
    (:func:`vision_train.data.splits.split_called`). An image's id is its path below ``root``.

    Args:
        root: The folder.
        divided: Whether the samples are to be divided for training. Data that is evaluated need not hold a folder for
            training.
        declared: Folders of these names are classes, whatever they look like.

    Raises:
        UserError: No class folders, an empty one, or folders that fit neither layout.
    """
    listing = list_images_in(root)
    splits = _split_folders(root, listing, declared, divided=divided)
    samples: list[ImageSample] = []
    for split, folder in splits.items():
        samples += _class_folders(folder, root, split, listing, declared)
    if None not in splits:
        listing.leave_beside(root)
    return FoundImages(samples, [*_renamed(splits), *listing.notes()])


def read_pool(root: Path, *, divided: bool = True) -> FoundImages:
    """Read every image below ``root``, or below each of the folders of splits, whatever other folders are called.

    Args:
        root: The folder.
        divided: As for :func:`read_folder`.

    Raises:
        UserError: No image, or folders for validation or test without one for training or beside others.
    """
    listing = list_images_in(root)
    splits = _split_folders(root, listing, divided=divided)
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
    if not samples:
        raise UserError("; ".join([f"{root}: no images in it ({_endings()})", *listing.notes()]))
    return FoundImages(samples, [*_renamed(splits), *listing.notes()])


def _split_folders(
    root: Path, listing: Listing, declared: Collection[str] = (), *, divided: bool
) -> dict[str | None, Path]:
    """The folder of each split, in the order of splits; ``root`` itself, without a split, where nothing divides it."""
    names = [folder.name for folder in listing.folders(root)]
    found = {name: split for name in names if name not in declared and (split := split_called(name))}
    split_of = dict(sorted(found.items(), key=lambda item: SPLITS.index(item[1])))
    if not split_of:
        return {None: root}
    if others := [name for name in names if name not in split_of and _holds_data(root / name, listing)]:
        raise UserError(
            f"{root}: holds {' and '.join(split_of)} and also {first_named(others)}. Beside folders of splits no other "
            f"folder may lie; rename or move the rest. {_DECLARE}"
        )
    folders: dict[str | None, Path] = {}
    for split in SPLITS:
        called = [name for name, stands_for in split_of.items() if stands_for == split]
        if len(called) > 1:
            named = " and ".join(called)
            raise UserError(f"{root}: {named} all stand for {split}; merge them, or rename one. {_DECLARE}")
        if called:
            folders[split] = root / called[0]
    if divided and "train" not in folders:
        raise UserError(f"{root}: holds {' and '.join(split_of)}, but no folder train to learn from. {_DECLARE}")
    return folders


def _holds_data(folder: Path, listing: Listing) -> bool:
    """Whether a folder is anything but a place where this program put its runs and pictures."""
    before = listing.outputs
    return bool(listing.below(folder, set())) or listing.outputs == before


def _renamed(splits: dict[str | None, Path]) -> list[str]:
    """Say which folder was taken as which split, where it is called otherwise."""
    taken = [f"{folder.name} as {split}" for split, folder in splits.items() if split and folder.name != split]
    return [f"folders of splits: {', '.join(taken)} ({', '.join(map(str, splits))})"] if taken else []


def _class_folders(
    folder: Path, root: Path, split: str | None, listing: Listing, declared: Collection[str]
) -> Iterator[ImageSample]:
    class_folders = listing.folders(folder)
    if not class_folders:
        raise UserError(f"{folder}: no class folders. Put the images of each class into a folder with the class's name")
    listing.leave_beside(folder)
    folder_of: dict[str, Path] = {}
    entered: set[Place] = {place_of(folder)}
    if len(class_folders) == 1:
        _refuse_wrapper(class_folders[0], listing, declared)
    for class_folder in class_folders:
        if split_called(class_folder.name) and class_folder.name not in declared:
            raise UserError(
                f"{printable(str(class_folder))}: is called like a split, inside a folder of a split; it cannot be a "
                f"class. Move its folders up by one. {_DECLARE}"
            )
        _refuse_splits_inside(class_folder, listing, declared)
        label = class_name(class_folder.name)
        if label in folder_of:
            raise UserError(
                f"class folders `{folder_of[label]}` and `{class_folder}` have the same name but for invisible "
                "characters; merge them or rename one"
            )
        outputs = listing.outputs
        files = listing.below(class_folder, entered)
        if not files and (listing.outputs > outputs or listing.leads_back(class_folder)):
            continue  # nothing but what this program put there, or a link that leads back
        if not files:
            raise UserError(
                f"class folder {printable(str(class_folder))}: no images in it ({_endings()}). Add some, or remove the "
                f"folder. {'; '.join(listing.notes())}".rstrip()
            )
        folder_of[label] = class_folder
        for file in files:
            yield ImageSample(file.relative_to(root).as_posix(), str(file), label, split)


def _refuse_wrapper(only: Path, listing: Listing, declared: Collection[str]) -> None:
    """Refuse a single folder that holds the folders of splits, as archives are unpacked."""
    if only.name not in declared and any(split_called(folder.name) for folder in listing.folders(only)):
        root = printable(str(only))
        raise UserError(f"{only.parent}: holds but one folder, with the splits in it; set data.root={root}")


def _refuse_splits_inside(class_folder: Path, listing: Listing, declared: Collection[str]) -> None:
    """Refuse a class folder that is divided itself: its test images would be trained on."""
    inside = [folder.name for folder in listing.folders(class_folder)]
    splits = [name for name in inside if split_called(name)]
    if splits and class_folder.name not in declared:
        raise UserError(
            f"{printable(str(class_folder))}: holds {' and '.join(splits)}, which are called like splits, inside what "
            f"would be a class. Put splits above classes, as in {splits[0]}/{class_folder.name}, or list the images "
            f"with their splits in a csv (data.labels). If {class_folder.name} is a class without splits, {DECLARE}"
        )


def _endings() -> str:
    return f"endings read: {' '.join(sorted(IMAGE_ENDINGS))}"
