"""What pictures of bags are drawn from: the sizes of the slides, and the images that the bags were made of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from vision_train.data.bags.bag import BagEntry
from vision_train.data.bags.index import patches_folders
from vision_train.data.bags.samples import BagSample
from vision_train.data.bags.tools.embed import id_of_image
from vision_train.data.decode import decode_large
from vision_train.data.folders import IMAGE_ENDINGS, Listing
from vision_train.data.kind import OnBad
from vision_train.errors import UserError
from vision_train.wording import first_named


def sources_of_pictures(
    samples: Sequence[BagSample], images: Path | None, on_bad: OnBad
) -> tuple[dict[str, Any], list[str]]:
    """What the renderer of bags needs, and what to tell the user.

    Args:
        samples: The bags.
        images: Folder of the images that the bags were made of, called like them.
        on_bad: Whether a bag that cannot be drawn stops everything or is left without pictures.

    Raises:
        UserError: As :func:`images_of_bags`.
    """
    bags = {sample.id: sample.bag for sample in samples if isinstance(sample.bag, BagEntry)}
    found = {} if images is None else images_of_bags(images, bags)
    notes = []
    if images is not None and (absent := [bag_id for bag_id in bags if bag_id not in found]):
        notes.append(f"no image in {images} of {first_named(absent)}; drawn without")
    if unplaced := [bag_id for bag_id, bag in bags.items() if bag.coords is None]:
        first = unplaced[0]
        folders = ", ".join(map(str, patches_folders(bags[first].path)))
        notes.append(
            f"no coordinates of {first_named(unplaced)}; drawn in the order of the file. Looked for in the files of "
            f"features, and for {first}.h5 and {first}_patches.h5 in {folders}"
        )
    sizes = {bag_id: bag.level0_size for bag_id, bag in bags.items()}
    return {"level0_sizes": sizes, "images": found, "decode": decode_large, "on_bad": on_bad}, notes


def images_of_bags(folder: Path, ids: Collection[str]) -> dict[str, Path]:
    """Find the images that bags were made of.

    Args:
        folder: Of images that are called like their bags; further folders in it are not searched.
        ids: Of the bags.

    Returns:
        The image of each bag that has one.

    Raises:
        UserError: No such folder, no image of any bag in it, or several of one.
    """
    if not folder.is_dir():
        raise UserError(f"--images {folder}: no such folder")
    found: dict[str, list[Path]] = {}
    for path in Listing(folder, IMAGE_ENDINGS, "images").files(folder):
        found.setdefault(id_of_image(path), []).append(path)
    images = {bag_id: found[bag_id] for bag_id in ids if bag_id in found}
    if not images:
        raise UserError(
            f"--images {folder}: no image there is called like a bag; expected such as {next(iter(ids))}.png"
        )
    for bag_id, paths in images.items():
        if len(paths) > 1:
            raise UserError(
                f"--images {folder}: several of the bag {bag_id}: {first_named([path.name for path in paths])}"
            )
    return {bag_id: paths[0] for bag_id, paths in images.items()}
