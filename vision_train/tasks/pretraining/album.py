"""Pictures of what a network believes: images whose dropped patches lie where it would put them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.droppos.network import PositionOutput
from models.droppos.reconstruction import reconstruct_positions
from models.droppos.scores import score_positions
from vision_train.artefacts import ImageGrid
from vision_train.processes import gather_objects

KEPT = 12
"""Images shown."""
SIDE = 160
"""Side of each of the three pictures of an image, in pixels."""
GAP = 4
"""Between them, in pixels."""
GROUND = 235
"""Grey level where no patch lies."""


class Album:
    """Keeps the images with the smallest ids of a pass, each beside its truth and the network's belief.

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
        self._pages: dict[str, tuple[np.ndarray, str]] = {}

    def add(self, ids: Sequence[str], images: Tensor, output: PositionOutput) -> None:
        """Consider a batch of normalised images (B C H W) and what the network returned for them."""
        wanted = [row for row, name in enumerate(ids) if name not in self._pages and self._is_early(name)]
        if not wanted:
            return
        levels = (images.float().cpu() * self.std + self.mean).clamp(0, 1) * 255
        on_cpu = _to_cpu(output)
        laid = reconstruct_positions(levels, on_cpu, grid=self.grid, patch=self.patch, background=GROUND)
        scores = score_positions(on_cpu, self.grid)
        for row in wanted:
            strip = [_picture(picture[row]) for picture in (levels, laid.truth, laid.belief)]
            asked, right = int(scores.tokens[row]), int(scores.correct[row])
            apart = scores.distance[row].item() / max(asked, 1)
            text = f"{right} of {asked} in their place, {apart:.1f} patches off on average"
            self._pages[ids[row]] = (_side_by_side(strip), f"{text}\n{ids[row]}")
        for name in sorted(self._pages)[KEPT:]:
            del self._pages[name]

    def _is_early(self, name: str) -> bool:
        return len(self._pages) < KEPT or name < max(self._pages)

    def image_grid(self, split: str) -> ImageGrid:
        """The pictures of all processes."""
        pages = {name: page for pages in gather_objects(self._pages) for name, page in pages.items()}
        shown = [pages[name] for name in sorted(pages)[:KEPT]]
        return ImageGrid(
            f"{split}_positions",
            f"Where the network puts patches of {split} images",
            images=[picture for picture, _ in shown],
            captions=[caption for _, caption in shown],
            note="Left: the image. Middle: the patches that the network sees, at their places. Right: the same "
            "patches, those without a position where the network believes that they belong; where several meet, the "
            "one that it is surest of lies on top.",
        )


def _to_cpu(output: PositionOutput) -> PositionOutput:
    return output._replace(
        logits=output.logits.float().cpu(), masks=output.masks.to("cpu"), weights=output.weights.cpu()
    )


def _picture(levels: Tensor) -> np.ndarray:
    """C H W, 0 to 255, to a square of ``SIDE`` pixels with three channels; small images keep their hard edges."""
    pixels = levels.round().to(torch.uint8).permute(1, 2, 0).numpy()
    small = max(pixels.shape[:2]) < SIDE
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).convert("RGB")
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS))


def _side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((SIDE, GAP, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)
