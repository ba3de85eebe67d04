"""Pictures of what a network believes: images whose dropped patches lie where it would put them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.droppos.masks import Masks
from models.droppos.network import PositionOutput
from models.droppos.reconstruction import reconstruct_positions
from models.droppos.scores import score_positions
from vision_train.artefacts import ImageGrid
from vision_train.tasks.gallery import Gallery

KEPT = 12
"""Images shown."""
SIDE = 160
"""Longer side of each of the three pictures of an image, in pixels."""
GAP = 4
"""Between them, in pixels."""
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)
"""Colours of frames, told apart by most who see colours otherwise (Okabe and Ito)."""
GROUND = 235
"""Grey level where no patch lies."""


class PositionPictures:
    """Pictures of some images of a pass, each beside its truth and the network's belief.

    The images are the same in every epoch and run.

    Args:
        grid: Rows and columns of patches.
        patch: Height and width of a patch in pixels.
        mean: Channel means that were subtracted from pixels in [0, 1].
        std: Channel standard deviations that they were divided by.
    """

    def __init__(
        self, grid: tuple[int, int], patch: tuple[int, int], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.grid, self.patch = grid, patch
        self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
        self._gallery: Gallery[tuple[np.ndarray, str]] = Gallery(KEPT)

    def add(self, ids: Sequence[str], images: Tensor, output: PositionOutput) -> None:
        """Consider a batch of normalised images (B C H W) and what the network returned for them."""
        wanted = [row for row, name in enumerate(ids) if self._gallery.wants(name, _lot(name))]
        if not wanted:
            return
        levels = (images[wanted].float().cpu() * self.std + self.mean).clamp(0, 1) * 255
        of_wanted = _rows(output, wanted)
        laid = reconstruct_positions(levels, of_wanted, grid=self.grid, patch=self.patch, background=GROUND)
        judged = self._judge(of_wanted)
        scores = score_positions(of_wanted, self.grid)
        for row, name in enumerate(ids[place] for place in wanted):
            strip = [_picture(picture[row]) for picture in (levels, laid.truth, laid.belief)]
            strip[-1] = _framed(strip[-1], judged[row])
            asked, right = int(scores.tokens[row]), int(scores.correct[row])
            apart = scores.distance[row].item() / max(asked, 1)
            text = f"{right} of {asked} in their place, {apart:.1f} patches off on average"
            self._gallery.add(name, _lot(name), (_side_by_side(strip), f"{text}\n{name}"))

    def _judge(self, output: PositionOutput) -> Tensor:
        """Whether what lies on top of each cell is right: B rows columns, 1 or -1, 0 where no position was dropped."""
        visible, dropped, _ = output.masks
        # Images that show, instead of pixels, each patch's place, counted from 1, where its position was dropped.
        place = torch.arange(1, self.grid[0] * self.grid[1] + 1, dtype=torch.float32)
        asked = torch.zeros(len(visible), len(place)).scatter(1, visible, dropped.float())
        marked = (place * asked).view(-1, 1, *self.grid)
        laid = reconstruct_positions(marked, output, grid=self.grid, patch=(1, 1)).belief[:, 0]
        return torch.where(laid == place.view(self.grid), 1, -1) * (laid > 0)

    def image_grid(self, split: str) -> ImageGrid:
        """The pictures of all processes."""
        shown = dict(sorted(self._gallery.gather().items()))
        return ImageGrid(
            f"{split}_positions",
            f"Where the network puts patches of {split} images",
            images=[picture for picture, _ in shown.values()],
            captions=[caption for _, caption in shown.values()],
            note="Left: the image. Middle: the patches that the network sees, at their places. Right: the same "
            "patches, those without a position where the network believes that they belong; where several meet, the "
            "one that it is surest of lies on top. Frames: blue where one without a position is in its place, orange "
            "where it is not.",
        )


def _lot(name: str) -> int:
    """Order in which images are drawn, fixed by their ids and blind to their folders."""
    return zlib.crc32(name.encode("utf-8", "surrogateescape"))


def _rows(output: PositionOutput, rows: list[int]) -> PositionOutput:
    """Some images of a batch, on the CPU."""
    visible, dropped = output.masks.visible[rows], output.masks.dropped[rows]
    return output._replace(
        logits=output.logits[rows].float().cpu(),
        masks=Masks(visible.cpu(), dropped.cpu(), None),
        weights=output.weights[rows].cpu(),
    )


def _picture(levels: Tensor) -> np.ndarray:
    """C H W, 0 to 255, to three channels and a longer side of ``SIDE`` pixels; small images keep their hard edges."""
    pixels = levels.round().to(torch.uint8).permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    longer = max(height, width)
    size = max(1, round(SIDE * width / longer)), max(1, round(SIDE * height / longer))
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("RGB")
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST if longer < SIDE else Image.Resampling.LANCZOS))


def _framed(picture: np.ndarray, judged: Tensor) -> np.ndarray:
    """Frame the cells of a picture that are judged (rows columns)."""
    framed = picture.copy()
    rows, columns = (
        np.linspace(0, side, count + 1).round().astype(int)
        for side, count in zip(framed.shape[:2], judged.shape, strict=True)
    )
    for row, column in judged.nonzero().tolist():
        cell = framed[rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
        width = max(1, min(cell.shape[:2]) // 12)
        inside = cell[width:-width, width:-width].copy()
        cell[:] = RIGHT if judged[row, column] > 0 else WRONG
        cell[width:-width, width:-width] = inside
    return framed


def _side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((len(pictures[0]), GAP, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)
