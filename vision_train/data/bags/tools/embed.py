"""Turning large images into bags: tiles are cut and encoded, and features written in TRIDENT's layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from models.mil.pictures import cut_tile
from vision_train.data.bags.formats import open_bag
from vision_train.data.bags.hdf5 import import_h5py
from vision_train.data.bags.index import slide_id
from vision_train.data.bags.stored import COORDS, BadBagError, StoredBag, array_in_memory
from vision_train.data.bags.tools.tiles import Corners, Pixels, select_tiles
from vision_train.data.bags.tools.writing import write_bag
from vision_train.data.decode import BadImageError, decode_large
from vision_train.data.kind import OnBad
from vision_train.errors import UserError
from vision_train.files import check_writable
from vision_train.wording import first_named

LONGEST_FILE_NAME = 255
"""Bytes that file systems allow."""
FULL_PRECISION = "32-true"
"""Lightning's word for float32."""

OnBatch = Callable[[int, int], None]
"""Called after each batch with the number of its tiles and of the tiles of the whole image."""


class TileEncoder(Protocol):
    """A network that turns tiles into features."""

    @property
    def name(self) -> str:
        """Name that differs where the features would."""

    @property
    def precision(self) -> str:
        """Lightning's word for what the features are computed in, such as ``32-true``."""

    def __call__(self, tiles: Sequence[Pixels]) -> Tensor:
        """Features of tiles (T T 3 each): B D on the CPU."""


@dataclass(frozen=True)
class Embedding:
    """Settings that turn images into bags."""

    folder: Path
    """Folder to write to. It gets the folders that TRIDENT would write for tiles of this size."""
    encoder: TileEncoder
    tile: int = 256
    """Side of a tile in pixels of the image."""
    keep_background: bool = False
    """Whether to take tiles of background too."""
    batch_size: int = 64
    """Number of tiles that are encoded at a time."""

    @property
    def features(self) -> Path:
        """Folder of the bags."""
        return self._home / f"features_{self.encoder.name}"

    @property
    def patches(self) -> Path:
        """Folder of the files that hold coordinates alone."""
        return self._home / "patches"

    @property
    def _home(self) -> Path:
        return self.folder / f"1x_{self.tile}px_0px_overlap"  # an ordinary image has no other magnification

    def has(self, image_id: str, image: Path) -> bool:
        """Whether the bag of an image exists, is newer than the image and has these tiles and this encoder."""
        file, patches = self._files(image_id)
        try:
            if not patches.is_file() or file.stat().st_mtime_ns < image.stat().st_mtime_ns:
                return False
            expected = {"encoder": self.encoder.name, **self._tiling, **_origin(image)}
            with open_bag(file) as stored:
                return all(stored.fact(name) == value for name, value in expected.items())
        except (OSError, BadBagError):
            return False

    def write(self, image_id: str, image: Path, on_batch: OnBatch) -> int:
        """Embed one image and write its bag. Nothing is written where that fails or is interrupted.

        Returns:
            The number of its tiles.

        Raises:
            BadImageError: The image cannot be read, or all of its tiles are background.
            UserError: The encoder cannot process a batch, features are not finite, or the files cannot be written.
        """
        pixels = decode_large(image)
        corners = select_tiles(pixels, self.tile, keep_background=self.keep_background)
        features = self._encode(pixels, corners, on_batch)
        if not features.isfinite().all():
            in_full = self.encoder.precision == FULL_PRECISION
            remedy = "" if in_full else f", or too large for 16 bits; give --precision {FULL_PRECISION}"
            raise UserError(f"{image}: the features that {self.encoder.name} computes are not finite{remedy}")
        height, width = pixels.shape[:2]
        magnification = {"level0_magnification": 1, "target_magnification": 1}
        size = {"level0_width": width, "level0_height": height}
        coords = array_in_memory(corners, {**self._tiling, **magnification, **size, "overlap": 0, "name": image_id})
        named = array_in_memory(features, {"name": image_id, "encoder": self.encoder.name})
        file, patches = self._files(image_id)
        write_bag(patches, StoredBag({COORDS: coords}))
        write_bag(file, StoredBag({"features": named, COORDS: coords}, _origin(image)))
        return len(corners)

    @property
    def _tiling(self) -> dict[str, Any]:
        background = "kept" if self.keep_background else "left out"
        return {"patch_size": self.tile, "patch_size_level0": self.tile, "background": background}

    def _files(self, image_id: str) -> tuple[Path, Path]:
        name = f"{image_id}_patches.h5"  # TRIDENT's name; CLAM's is shorter, and read as well
        name = name if len(os.fsencode(name)) <= LONGEST_FILE_NAME else f"{image_id}.h5"
        return self.features / f"{image_id}.h5", self.patches / name

    def _encode(self, pixels: Pixels, corners: Corners, on_batch: OnBatch) -> Tensor:
        """Features of all tiles, N D."""
        features = []
        for start in range(0, len(corners), self.batch_size):
            batch = corners[start : start + self.batch_size].tolist()
            features.append(self.encoder([cut_tile(pixels, x, y, self.tile) for x, y in batch]))
            on_batch(len(batch), len(corners))
        return torch.cat(features)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Outcome for one image."""

    image: Path
    tiles: int = 0
    """Number of tiles that were written."""
    kept: bool = False
    """Whether the bag existed already."""
    skipped: str | None = None
    """Reason why the image could not be used."""


def id_of_image(path: Path) -> str:
    """Id of an image's bag: the name of the file without folder and ending."""
    name = slide_id(path.name)  # knows endings of two parts
    return slide_id(path.stem) if name.endswith(path.suffix) else name


def images_by_id(paths: Iterable[Path]) -> dict[str, Path]:
    """Map the ids of bags to their images.

    Raises:
        UserError: Two images would have one id.
    """
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(id_of_image(path), []).append(path)
    shared = {image_id: places for image_id, places in found.items() if len(places) > 1}
    if shared:
        image_id, places = next(iter(shared.items()))
        others = f"; and so for {len(shared) - 1} other bag(s)" if len(shared) > 1 else ""
        raise UserError(
            f"several images would become the bag {image_id}: {first_named([*map(str, places)])}{others}. "
            "Rename them, or embed each folder to a folder of its own"
        )
    return {image_id: places[0] for image_id, places in found.items()}


def embed_images(
    images: Mapping[str, Path],
    embedding: Embedding,
    on_bad_image: OnBad,
    skip_with: str,
    on_batch: OnBatch = lambda tiles, of: None,
) -> Iterator[Embedded]:
    """Write a bag for each image. Called again after an interruption, it continues with the images that are missing.

    Args:
        images: Files by the ids of their bags.
        embedding: Settings.
        on_bad_image: ``error`` stops at an image that cannot be read or is background alone; ``skip`` leaves it out.
        skip_with: The option that chooses ``skip``, for the message.
        on_batch: Called after each batch of tiles.

    Returns:
        The outcome for each image, as soon as it is done. The folder is checked before the first.

    Raises:
        UserError: An image cannot be used, its features are not finite, or files cannot be written.
    """
    import_h5py(embedding.folder)  # a missing package is reported before the first image is embedded
    check_writable(embedding.folder, "DIR")
    return _embedded(images, embedding, on_bad_image, skip_with, on_batch)


def _embedded(
    images: Mapping[str, Path], embedding: Embedding, on_bad_image: OnBad, skip_with: str, on_batch: OnBatch
) -> Iterator[Embedded]:
    for folder in (embedding.features, embedding.patches):
        folder.mkdir(parents=True, exist_ok=True)
    for image_id, image in images.items():
        if embedding.has(image_id, image):
            yield Embedded(image, kept=True)
            continue
        try:
            tiles = embedding.write(image_id, image, on_batch)
        except BadImageError as error:
            if on_bad_image == "error":
                remedy = f"Mend or remove it, or {skip_with} to go on without it"
                raise UserError(f"{image}: {error}. {remedy}") from error
            yield Embedded(image, skipped=str(error))
        else:
            yield Embedded(image, tiles)


def _origin(image: Path) -> dict[str, Any]:
    """Facts that tell most images from others of the same name."""
    return {"image_bytes": image.stat().st_size}
