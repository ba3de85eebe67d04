"""Folders of classes, and what is refused that looks like them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from vision_train.data.annotations import annotations_among
from vision_train.data.folders import IMAGE_ENDINGS, Listing, Place, place_of
from vision_train.data.image_tables import DECLARE
from vision_train.data.labels import class_name
from vision_train.data.sample import ImageSample
from vision_train.data.splits import split_called, splits_called
from vision_train.data.stored_images import holds_stored
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.wording import first_named

IF_CLASSES = f"If they are classes, {DECLARE}"
"""What messages tell those whose folders are classes after all."""


def read_class_folders(
    folder: Path, root: Path, split: str | None, listing: Listing, declared: Collection[str]
) -> Iterator[ImageSample]:
    """Yield the images of the class folders in a folder.

    Args:
        folder: Holds a folder for each class.
        root: The folder that ids are paths below.
        split: The split that the folder stands for; None for none.
        listing: Lists the folders.
        declared: Folders of these names are classes, whatever they look like.

    Raises:
        UserError: There are none, one is empty, or they are something else than classes.
    """
    class_folders = listing.folders(folder)
    if not class_folders:
        raise _no_class_folders(folder, split, listing)
    listing.leave_beside(folder)
    if len(class_folders) == 1:
        _refuse_wrapper(class_folders[0], listing, declared)
    for class_folder in class_folders:
        _refuse_splits(class_folder, listing, declared)
    folder_of: dict[str, Path] = {}
    inside: list[set[str]] = []
    entered: set[Place] = {place_of(folder)}
    for class_folder in class_folders:
        files = _images_of(class_folder, entered, listing)
        if not files:
            continue
        label = class_name(class_folder.name)
        if "|" in label and label not in declared:
            raise UserError(
                f"class folder {printable(str(class_folder))}: its name holds a |, which divides several labels. List "
                "images of several labels in a csv, with data.labels=FILE.csv data.multi_label=true method.loss=bce. "
                f"{IF_CLASSES}"
            )
        if label in folder_of:
            raise UserError(
                f"class folders `{folder_of[label]}` and `{class_folder}` have the same name but for invisible "
                "characters; merge them or rename one"
            )
        folder_of[label] = class_folder
        _refuse_annotations(class_folder, files)
        samples = [ImageSample(file.relative_to(root).as_posix(), str(file), label, split) for file in files]
        inside.append(_folders_inside(class_folder, files))
        yield from samples
    _refuse_same_inside([*folder_of.values()], inside, declared)


def _folders_inside(class_folder: Path, files: list[Path]) -> set[str]:
    """The folders directly in a class folder that hold images of the class."""
    depth = len(class_folder.parts)
    return {file.parts[depth] for file in files if len(file.parts) > depth + 1}


def endings_read() -> str:
    """The endings of images, for messages."""
    return f"endings read: {' '.join(sorted(IMAGE_ENDINGS))}"


def _no_class_folders(folder: Path, split: str | None, listing: Listing) -> UserError:
    remedy = "Put the images of each class into a folder with the class's name"
    if split not in (None, "train") and (count := len(listing.files(folder))):
        remedy = (
            f"The {count:,} images in it have no label: move the folder out of data.root, so that {split} is cut from "
            f"the training images, and use it with `vision-train predict`. Or: {remedy[0].lower()}{remedy[1:]}"
        )
    return UserError(f"{printable(str(folder))}: no class folders{_if_stored(folder) or f'. {remedy}'}")


def _if_stored(folder: Path) -> str:
    """What helps where images stand in columns of files."""
    return ". It holds Parquet or Arrow files: set data.source=parquet" if holds_stored(folder) else ""


def _images_of(class_folder: Path, entered: set[Place], listing: Listing) -> list[Path]:
    """Images of a class; none where there is nothing but what this program wrote, or a link that leads back."""
    files = listing.below(class_folder, entered)
    if not files and not (listing.holds_outputs(class_folder) or listing.leads_back(class_folder)):
        raise UserError(
            f"class folder {printable(str(class_folder))}: no images in it ({endings_read()}). Add some, or remove the "
            f"folder. {'; '.join(listing.notes())}{_if_stored(class_folder)}".rstrip()
        )
    return files


def _refuse_wrapper(only: Path, listing: Listing, declared: Collection[str]) -> None:
    """Refuse a single folder that holds the folders of splits, as archives are unpacked."""
    if only.name not in declared and splits_called([folder.name for folder in listing.folders(only)]):
        root = printable(str(only))
        raise UserError(f"{only.parent}: holds but one folder, with the splits in it; set data.root={root}")


def _refuse_splits(class_folder: Path, listing: Listing, declared: Collection[str]) -> None:
    """Refuse a class folder that is called like a split or divided itself: its test images would be trained on."""
    if class_folder.name in declared:
        return
    if split_called(class_folder.name):
        raise UserError(
            f"{printable(str(class_folder))}: is called like a split, inside a folder of a split; it cannot be a "
            f"class. Move its folders up by one. {IF_CLASSES}"
        )
    if splits := list(splits_called([folder.name for folder in listing.folders(class_folder)])):
        raise UserError(
            f"{printable(str(class_folder))}: holds {' and '.join(splits)}, which are called like splits, inside what "
            f"would be a class. Put splits above classes, as in {splits[0]}/{class_folder.name}, or list the images "
            f"with their splits in a csv (data.labels). If {class_folder.name} is a class without splits, {DECLARE}"
        )


def _refuse_annotations(class_folder: Path, files: list[Path]) -> None:
    """Refuse masks and the like beneath a class: they would be trained on as images of it."""
    if found := annotations_among(files, class_folder):
        named = first_named([f"{name} ({count:,})" for name, count in found.items()])
        raise UserError(
            f"class folder {printable(str(class_folder))}: besides images it holds what are called like masks, labels "
            f"or small copies of them: {named}. They would be trained on as images of the class. Move them out of "
            "data.root, or list the images in a csv (data.labels). If they are images of the class, rename them"
        )


def _refuse_same_inside(class_folders: list[Path], inside: list[set[str]], declared: Collection[str]) -> None:
    """Refuse folders that hold the same folders each: then those inside may be the classes."""
    if len(class_folders) < 2 or all(folder.name in declared for folder in class_folders):
        return
    if len(inside[0]) > 1 and all(names == inside[0] for names in inside):
        raise UserError(
            f"{printable(str(class_folders[0].parent))}: {first_named([folder.name for folder in class_folders])} all "
            f"hold the same folders, {first_named(sorted(inside[0]))}. If those are the classes, and the folders above "
            "them splits, call the upper ones train, val and test; if they are neither, merge them. If the upper ones "
            f"are the classes, {DECLARE}"
        )
