"""Where a network looks in bags, written one bag at a time: maps, the hottest instances, and all attention as a csv."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vision_train.artefacts import attention_csv
from vision_train.data.bags.bag import BagEntry
from vision_train.data.bags.tables import first_named
from vision_train.data.bags.tools.embed import id_of_image
from vision_train.data.bags.tools.tiles import cut_tile
from vision_train.data.dataset import OnBad
from vision_train.data.decode import BadImageError, decode_large, is_image_file
from vision_train.errors import UserError
from vision_train.files import write_bytes, written_whole
from vision_train.report.attention_map import attention_map, branch_maps
from vision_train.report.attention_values import hottest
from vision_train.report.contact_sheet import contact_sheet, instance_captions
from vision_train.report.tile_layout import Pixels, Thumbnail, lay_out_tiles
from vision_train.run.predictions import Prediction, names_apart
from vision_train.tasks.bags.exhibits import HOTTEST, pictured_instances

CSV_NAME = "attention.csv"
MAP, BRANCHES, TOP = ".png", "-branches.png", "-top.png"
"""What is added to the name of a bag: its map, those of its branches, and its hottest instances."""
LEAST_SIDE = 16
"""Pixels along the side of a tile that a smaller image of the slide must show for the tile to be told."""


class AttentionPictures:
    """Draws bags as they come. Nothing is kept of one but its rows of the csv, on disk.

    Args:
        folder: Gets ``attention.csv``, and for each bag its map, those of several branches, and its hottest instances
            where these can be shown. Pictures of the same name are replaced.
        bags: All that may come, by id.
        encoder: What computed their features.
        images: The images that they were made of, by id: one lies under the map, and shows the instances. It may be
            smaller than the slide where the bag's file says how large that is.
        on_bad: Whether a bag that cannot be drawn stops everything or is left without pictures and counted.

    Attributes:
        undrawn: Bags without pictures so far, and why.
        too_small: Bags so far whose image is too small to show their hottest instances.
    """

    def __init__(
        self,
        folder: Path,
        bags: Mapping[str, BagEntry],
        encoder: str | None,
        images: Mapping[str, Path],
        on_bad: OnBad,
    ) -> None:
        self.folder = folder
        self.bags = bags
        self.encoder = encoder
        self.images = images
        self.on_bad = on_bad
        self.undrawn: dict[str, str] = {}
        self.too_small: list[str] = []
        self._names = names_apart(bags, (MAP, BRANCHES, TOP))
        self._csv: TextIO | None = None

    @contextmanager
    def written(self) -> Iterator[None]:
        """While this is open bags may come; the csv is there once it has closed, unless an exception closed it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            written_whole(self.folder / CSV_NAME) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as self._csv,
        ):
            yield

    def add(
        self,
        prediction: Prediction,
        attention: NDArray[np.float32],
        features: Tensor,
        coords: NDArray[np.int64] | None,
        patch_size_level0: int | None,
    ) -> None:
        """Write what belongs to one bag of N instances.

        Args:
            prediction: What the network makes of it.
            attention: T N, of each branch.
            features: N D.
            coords: N 2, x and y in pixels of level 0.
            patch_size_level0: Side of an instance in pixels of level 0.

        Raises:
            UserError: It cannot be drawn, and that stops everything.
        """
        assert self._csv is not None, "bags come while the csv is open"
        self._csv.write(attention_csv(prediction.name, attention, coords, header=self._csv.tell() == 0))
        try:
            self._draw(prediction, attention, features, coords, patch_size_level0)
        except (BadImageError, ValueError) as error:  # what lays out tiles refuses numbers of theirs by the latter
            if self.on_bad == "error":
                raise UserError(
                    f"{prediction.name}: its pictures cannot be drawn: {error}. Mend that, or give --on-bad-bag skip "
                    "to go on without them"
                ) from error
            self.undrawn[prediction.name] = str(error)

    def _draw(
        self,
        prediction: Prediction,
        attention: NDArray[np.float32],
        features: Tensor,
        coords: NDArray[np.int64] | None,
        patch_size_level0: int | None,
    ) -> None:
        title = f"{prediction.name}: {prediction.label} ({prediction.confidence:.0%})"
        whole = attention.mean(axis=0)
        slide = None if coords is None else self._slide(prediction.name, coords)
        layout = lay_out_tiles(len(whole), coords, patch_size_level0, slide)
        self._write(prediction, MAP, attention_map(title, whole, layout))
        if len(attention) > 1:
            self._write(prediction, BRANCHES, branch_maps(title, attention, layout))
        instances = hottest(whole, HOTTEST)
        pictures = pictured_instances(features, instances, self.encoder)
        if slide is not None and coords is not None and patch_size_level0 is not None:
            pictures = _cut_out(slide, coords[instances], patch_size_level0) or pictures
            if not pictures:
                self.too_small.append(prediction.name)
        if pictures:
            captions = instance_captions(whole, instances, coords)
            sheet = contact_sheet(f"{title}, hottest instances", pictures, captions)
            self._write(prediction, TOP, sheet)

    def _slide(self, bag_id: str, coords: NDArray[np.int64]) -> Thumbnail | None:
        """The image of a bag, if it has one; of full size where nothing says how large the slide is."""
        if (path := self.images.get(bag_id)) is None:
            return None
        try:
            image = decode_large(path)
        except BadImageError as error:
            raise BadImageError(f"{path}: {error}") from error
        size = image.shape[1], image.shape[0]
        if (slide_size := self.bags[bag_id].level0_size) is not None:
            return Thumbnail(image, slide_size)
        if outside := int((coords >= size).any(axis=1).sum()):
            raise BadImageError(
                f"{path}: {outside} of {len(coords)} tiles lie outside of its {size[0]} x {size[1]} pixels; it must "
                "have the full size of the slide, as the bag's file lacks level0_width and level0_height"
            )
        return Thumbnail(image, size)

    def _write(self, prediction: Prediction, ending: str, pixels: Pixels) -> None:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        write_bytes(self.folder / f"{self._names[prediction.name]}{ending}", buffer.getvalue())


def _cut_out(slide: Thumbnail, corners: NDArray[np.int64], patch_size_level0: int) -> list[Pixels]:
    """Tiles from the image of a slide, smaller where that is; none where too little of them would be seen."""
    height, width = slide.pixels.shape[:2]
    scale = np.array([width, height]) / slide.level0_size
    side = round(patch_size_level0 * float(scale.mean()))
    if side < min(patch_size_level0, LEAST_SIDE):
        return []
    return [cut_tile(slide.pixels, x, y, side) for x, y in np.rint(corners * scale).astype(np.int64).tolist()]


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
    for path in sorted(filter(is_image_file, folder.iterdir())):
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
