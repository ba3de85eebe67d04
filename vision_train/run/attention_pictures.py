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
from vision_train.data.bags.embed import id_of_image
from vision_train.data.bags.tables import first_named
from vision_train.data.bags.tiles import cut_tile
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


class AttentionPictures:
    """Draws bags as they come. Nothing is kept of one but its rows of the csv, on disk.

    Args:
        folder: Gets ``attention.csv``, and for each bag its map, those of several branches, and its hottest instances
            where these can be shown. Pictures of the same name are replaced.
        ids: Of all bags that may come.
        encoder: What computed their features.
        images: The images that they were made of, by id: one lies under the map, and shows the instances.
        on_bad: Whether a bag that cannot be drawn stops everything or is left without pictures and counted.

    Attributes:
        undrawn: Bags without pictures so far, and why.
    """

    def __init__(
        self, folder: Path, ids: Collection[str], encoder: str | None, images: Mapping[str, Path], on_bad: OnBad
    ) -> None:
        self.folder = folder
        self.encoder = encoder
        self.images = images
        self.on_bad = on_bad
        self.undrawn: dict[str, str] = {}
        self._names = names_apart(ids, (MAP, BRANCHES, TOP))
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
        image = self._image(prediction.name) if coords is not None else None
        slide = None if image is None else Thumbnail(image, (image.shape[1], image.shape[0]))
        layout = lay_out_tiles(len(whole), coords, patch_size_level0, slide)
        self._write(prediction, MAP, attention_map(title, whole, layout))
        if len(attention) > 1:
            self._write(prediction, BRANCHES, branch_maps(title, attention, layout))
        instances = hottest(whole, HOTTEST)
        pictures = pictured_instances(features, instances, self.encoder)
        if image is not None and coords is not None and patch_size_level0 is not None:
            pictures = [cut_tile(image, int(x), int(y), patch_size_level0) for x, y in coords[instances]]
        if pictures:
            captions = instance_captions(whole, instances, coords)
            sheet = contact_sheet(f"{title}, hottest instances", pictures, captions)
            self._write(prediction, TOP, sheet)

    def _image(self, bag_id: str) -> Pixels | None:
        if (path := self.images.get(bag_id)) is None:
            return None
        try:
            return decode_large(path)
        except BadImageError as error:
            raise BadImageError(f"{path}: {error}") from error

    def _write(self, prediction: Prediction, ending: str, pixels: Pixels) -> None:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        write_bytes(self.folder / f"{self._names[prediction.name]}{ending}", buffer.getvalue())


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
