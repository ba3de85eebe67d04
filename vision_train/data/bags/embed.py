"""From large images to bags: their tiles, features of these from an encoder, and files in TRIDENT's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from augment.geometry import View
from models.mil.pictures import cut_tile
from vision_train.data.bags.formats import open_bag
from vision_train.data.bags.hdf5 import import_h5py
from vision_train.data.bags.index import slide_id
from vision_train.data.bags.stored import COORDS, BadBagError, StoredBag, array_in_memory
from vision_train.data.bags.tables import first_named
from vision_train.data.bags.tiles import Corners, Pixels, select_tiles
from vision_train.data.bags.writing import write_bag
from vision_train.data.dataset import OnBad
from vision_train.data.decode import BadImageError, decode_large
from vision_train.errors import UserError
from vision_train.files import check_writable

OnBatch = Callable[[int, int], None]
"""Told the tiles of a batch and of the whole image once the batch is encoded."""


@dataclass(frozen=True)
class Encoder:
    """A network with what it does to pixels, as features are told apart by."""

    name: str
    """Differs where the features would: the name of the model and a digest of its weights, pixels and precision."""
    encode: Callable[[Tensor], Tensor]
    """Normalised images, B 3 S S on ``device`` -> pooled features, B D."""
    transform: Callable[[View[Pixels]], View[Tensor]]
    """View of a tile, T T 3 -> 3 S S, float32."""
    device: torch.device
    autocast: torch.dtype | None = None
    """What matrices are multiplied in; None for float32."""

    @torch.inference_mode()
    def __call__(self, tiles: Sequence[Pixels]) -> Tensor:
        """Features of tiles: B D on the CPU, in float16 where they were computed in no more than 16 bits."""
        images = torch.stack([self.transform(View.whole(tile)).image for tile in tiles]).to(self.device)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            features = self.encode(images)
        return features.to("cpu", torch.float32 if self.autocast is None else torch.float16)


@dataclass(frozen=True)
class Embedding:
    """How images become bags, and where these are written."""

    folder: Path
    """Gets the folders that TRIDENT would write for tiles of this size."""
    encoder: Encoder
    tile: int = 256
    """Side of a tile in pixels of the image."""
    keep_background: bool = False
    """Whether tiles of background are taken too."""
    batch_size: int = 64
    """Tiles that are encoded at a time."""

    @property
    def features(self) -> Path:
        """Folder of the bags."""
        return self._home / f"features_{self.encoder.name}"

    @property
    def patches(self) -> Path:
        """Folder of the files of coordinates alone."""
        return self._home / "patches"

    @property
    def _home(self) -> Path:
        return self.folder / f"1x_{self.tile}px_0px_overlap"  # an ordinary image has one magnification, its own

    def has(self, image_id: str, image: Path) -> bool:
        """Whether a bag is there that is newer than its image and made from it with these tiles and this encoder."""
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
        """Embed one image and write its bag; where that fails or is interrupted, no part of it is left.

        Returns:
            The number of its tiles.

        Raises:
            BadImageError: It cannot be read, or no tile of it shows anything.
            UserError: A batch does not fit into the memory of the device, features are not finite, or the files cannot
                be written.
        """
        pixels = decode_large(image)
        corners = select_tiles(pixels, self.tile, keep_background=self.keep_background)
        features = self._encode(pixels, corners, on_batch)
        if not features.isfinite().all():
            half = "" if self.encoder.autocast is None else ", or too large for 16 bits; give --precision 32-true"
            raise UserError(f"{image}: the features that {self.encoder.name} computes are not finite{half}")
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
        return self.features / f"{image_id}.h5", self.patches / f"{image_id}_patches.h5"

    def _encode(self, pixels: Pixels, corners: Corners, on_batch: OnBatch) -> Tensor:
        """N D."""
        features = []
        for start in range(0, len(corners), self.batch_size):
            batch = corners[start : start + self.batch_size].tolist()
            try:
                features.append(self.encoder([cut_tile(pixels, x, y, self.tile) for x, y in batch]))
            except torch.OutOfMemoryError as error:
                place = self.encoder.device
                raise UserError(f"--batch-size {self.batch_size}: does not fit into the memory of {place}") from error
            on_batch(len(batch), len(corners))
        return torch.cat(features)


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of one image."""

    image: Path
    tiles: int = 0
    """Written now."""
    kept: bool = False
    """Its bag was there already."""
    skipped: str | None = None
    """Why it could not be used."""


def id_of_image(path: Path) -> str:
    """The id of an image's bag: its name without folder and ending."""
    name = slide_id(path.name)  # knows endings of two parts
    return slide_id(path.stem) if name.endswith(path.suffix) else name


def images_by_id(paths: Iterable[Path]) -> dict[str, Path]:
    """Give each image the id of its bag.

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
    """Write a bag for each image. A command that was stopped goes on where it was.

    Args:
        images: Files, by the id of their bags.
        embedding: What is done to them.
        on_bad_image: Whether an image that cannot be read, or shows nothing, stops everything or is skipped.
        skip_with: What the user does to choose ``skip``, for the message.
        on_batch: Called after each batch of tiles.

    Returns:
        One image after the other, as they are done. The folders are checked and made before the first.

    Raises:
        UserError: An image cannot be used, its features are not finite, or files cannot be written.
    """
    import_h5py(embedding.folder)  # or say now that it is missing
    check_writable(embedding.folder)
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
    """Tells an image from another one of the same name in another folder, mostly."""
    return {"image_bytes": image.stat().st_size}
