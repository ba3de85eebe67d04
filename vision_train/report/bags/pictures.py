"""Write where a network looks, one bag at a time: maps, the hottest instances, and all attention as a csv."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.mil.attention_maps import AttendedBag
from models.mil.pictures import HOTTEST, cut_tile
from vision_train.errors import BadSampleError, UserError
from vision_train.files import mark_output, names_apart, write_bytes, written_whole
from vision_train.report.bags.attention_map import attention_map, branch_maps
from vision_train.report.bags.attention_values import hottest
from vision_train.report.bags.contact_sheet import contact_sheet, instance_captions
from vision_train.report.bags.storage import attention_csv
from vision_train.report.bags.tile_layout import Pixels, Thumbnail, lay_out_tiles
from vision_train.report.fonts import remarks_on_glyphs
from vision_train.wording import count_of

CSV_NAME = "attention.csv"
MAP, BRANCHES, TOP = ".png", "-branches.png", "-top.png"
"""Endings of the files of a bag: its map, the maps of its branches, its hottest instances."""
LEAST_SIDE = 16
"""Least side in pixels of a tile cut from a smaller image of the slide; nothing could be seen in less."""

Level0Sizes = Mapping[str, tuple[int, int] | None]
"""Id of a bag -> width and height of its slide in pixels of level 0; None where unknown."""


@contextmanager
def open_renderer(
    folder: Path,
    level0_sizes: Level0Sizes,
    *,
    images: Mapping[str, Path],
    decode: Callable[[Path], Pixels],
    on_bad: Literal["error", "skip"],
) -> Iterator[Renderer]:
    """Open a folder for pictures of the attention. While it is open bags may be added, in any order.

    The folder gets ``attention.csv``, and for each bag its map, those of several branches, and its hottest instances
    where these can be shown. Pictures of the same name are replaced. The csv appears when the folder is closed, unless
    an exception closes it.

    Args:
        folder: Made if absent.
        level0_sizes: Every bag that may be added.
        images: Id of a bag -> the image that it was made of, where there is one. It lies under the map and shows the
            instances. It may be smaller than the slide where the size of that is known.
        decode: Reads an image: H W 3. Raises BadSampleError for one that cannot be read.
        on_bad: Whether a bag that cannot be drawn stops everything or is left without pictures and counted.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    names = names_apart(level0_sizes, (MAP, BRANCHES, TOP))
    files = [f"{name}{ending}" for name in names.values() for ending in (MAP, BRANCHES, TOP)]
    mark_output(folder, *([] if is_new else [CSV_NAME, *files]))
    with (
        written_whole(folder / CSV_NAME) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as csv,
    ):
        yield Renderer(folder, csv, level0_sizes, images, decode, on_bad)


class Renderer:
    """Draws bags as they come, for :func:`open_renderer`. It keeps nothing of a bag but its rows of the csv, on disk.

    Attributes:
        undrawn: Bags without pictures so far, and why.
        too_small: Bags so far whose image is too small to show their hottest instances.
    """

    def __init__(
        self,
        folder: Path,
        csv: TextIO,
        level0_sizes: Level0Sizes,
        images: Mapping[str, Path],
        decode: Callable[[Path], Pixels],
        on_bad: Literal["error", "skip"],
    ) -> None:
        self.undrawn: dict[str, str] = {}
        self.too_small: list[str] = []
        self._folder = folder
        self._csv = csv
        self._level0_sizes = level0_sizes
        self._images = images
        self._decode = decode
        self._on_bad = on_bad
        self._drawn: set[str] = set()
        self._names = names_apart(level0_sizes, (MAP, BRANCHES, TOP))

    def add(self, name: str, drawing: AttendedBag) -> None:
        """Write what belongs to one bag.

        Args:
            name: Id of one of the bags that may be added.
            drawing: Its attention; the caption heads its pictures.

        Raises:
            UserError: It cannot be drawn, and that stops everything.
        """
        self._csv.write(attention_csv(name, drawing.attention, drawing.coords, header=self._csv.tell() == 0))
        try:
            self._draw(name, drawing)
        except (BadSampleError, ValueError) as error:  # tiles that cannot be laid out raise the latter
            if self._on_bad == "error":
                raise UserError(
                    f"{name}: its pictures cannot be drawn: {error}. Mend that, or set data.on_bad=skip to go on "
                    "without them"
                ) from error
            self.undrawn[name] = str(error)

    def remarks(self) -> list[str]:
        """What to tell the user at the end: where the csv is, and which bags have no pictures."""
        said = remarks_on_glyphs(self._drawn)
        said += [f"their attention in {self._folder / CSV_NAME}, with pictures beside it"]
        if self.undrawn:
            said.append(f"no pictures of {count_of(len(self.undrawn), 'bags')} that cannot be drawn:")
            said += [f"  {name}: {reason}" for name, reason in self.undrawn.items()]
        if self.too_small:
            named = ", ".join(self.too_small[:10]) + (
                f" ({len(self.too_small)} in all)" if len(self.too_small) > 1 else ""
            )
            said.append(f"note: no sheet of the hottest instances of {named}; too small in their images")
        return said

    def _draw(self, name: str, drawing: AttendedBag) -> None:
        attention, coords, title = drawing.attention, drawing.coords, f"{name}: {drawing.caption}"
        self._drawn |= {*title}
        whole = attention.mean(axis=0)
        slide = None if coords is None else self._slide(name, coords)
        layout = lay_out_tiles(len(whole), coords, drawing.patch_size_level0, slide)
        self._write(name, MAP, attention_map(title, whole, layout))
        if len(attention) > 1:
            self._write(name, BRANCHES, branch_maps(title, attention, layout))
        instances, pictures = hottest(whole, HOTTEST), drawing.pictures
        if slide is not None and coords is not None and drawing.patch_size_level0 is not None:
            pictures = _cut_out(slide, coords[instances], drawing.patch_size_level0) or pictures
            if not pictures:
                self.too_small.append(name)
        if pictures:
            captions = instance_captions(whole, instances, coords)
            self._write(name, TOP, contact_sheet(f"{title}, hottest instances", pictures, captions))

    def _slide(self, bag_id: str, coords: NDArray[np.int64]) -> Thumbnail | None:
        """The image of a bag, if it has one; of full size where nothing says how large the slide is."""
        if (path := self._images.get(bag_id)) is None:
            return None
        try:
            image = self._decode(path)
        except BadSampleError as error:
            raise BadSampleError(f"{path}: {error}") from error
        size = image.shape[1], image.shape[0]
        if (slide_size := self._level0_sizes[bag_id]) is not None:
            return Thumbnail(image, slide_size)
        if outside := int((coords >= size).any(axis=1).sum()):
            raise BadSampleError(
                f"{path}: {outside} of {len(coords)} tiles lie outside of its {size[0]} x {size[1]} pixels; it must "
                "have the full size of the slide, as the bag's file lacks level0_width and level0_height"
            )
        return Thumbnail(image, size)

    def _write(self, bag_id: str, ending: str, pixels: Pixels) -> None:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        write_bytes(self._folder / f"{self._names[bag_id]}{ending}", buffer.getvalue())


def _cut_out(slide: Thumbnail, corners: NDArray[np.int64], patch_size_level0: int) -> list[Pixels]:
    """Tiles from the image of a slide, smaller where that is; none where too little of them would be seen."""
    height, width = slide.pixels.shape[:2]
    scale = np.array([width, height]) / slide.level0_size
    side = round(patch_size_level0 * float(scale.mean()))
    if side < min(patch_size_level0, LEAST_SIDE):
        return []
    return [cut_tile(slide.pixels, x, y, side) for x, y in np.rint(corners * scale).astype(np.int64).tolist()]
