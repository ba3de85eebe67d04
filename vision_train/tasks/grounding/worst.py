"""The expressions of a pass that were missed furthest, as pictures of the true box, the found one and the attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vision_train.artefacts import BoxPicture, BoxPictures, MarkedBox
from vision_train.previews import Pixels
from vision_train.tasks.gallery import Gallery
from vision_train.tasks.grounding.results import PhraseResult

KEPT = 12
TRUE, FOUND = "what is meant", "what was found"
KINDS = {
    TRUE: "the box that the expression means",
    FOUND: "the box that the network found",
}
PANEL = "meant and found"
DARKEST = 0.25
"""Brightness that is left to cells without attention."""


class _Seen(NamedTuple):
    pixels: Pixels
    """The frame without its padding."""
    attention: Pixels | None
    """The same, dark where nothing was attended to."""
    to_pixels: np.ndarray
    """3 x 3, from pixels of the original image to these."""
    result: PhraseResult


class WorstExpressions:
    """Keeps the expressions with the smallest overlap."""

    def __init__(self) -> None:
        self._gallery: Gallery[_Seen] = Gallery(KEPT)

    def add(
        self,
        ids: Sequence[str],
        results: Sequence[PhraseResult],
        seen: Callable[[int], tuple[Pixels, Pixels | None, np.ndarray]],
    ) -> None:
        """Consider a batch.

        Args:
            ids: B.
            results: B.
            seen: Gives, by its place in the batch, the pixels of an image without padding, the same darkened by
                attention, and the affine from the original to them.
        """
        for place, (name, result) in enumerate(zip(ids, results, strict=True)):
            if self._gallery.wants(name, result.iou):
                self._gallery.add(name, result.iou, _Seen(*seen(place), result))

    def pictures(self, split: str) -> list[BoxPictures]:
        """The worst expressions of all processes, worst first. A collective call."""
        kept = self._gallery.gather()
        shown = [_picture(name, seen, seen.pixels) for name, seen in kept.items()]
        attended = [_picture(name, seen, seen.attention) for name, seen in kept.items() if seen.attention is not None]
        pictures = [BoxPictures(f"{split}_mistakes", f"Expressions of {split} that were missed furthest", shown, KINDS)]
        if attended:
            note = "Bright is what the answer attends to, averaged over layers and heads."
            title = "Where the network looked for them"
            pictures.append(BoxPictures(f"{split}_mistakes_attention", title, attended, KINDS, note))
        return pictures


def _picture(name: str, seen: _Seen, pixels: Pixels) -> BoxPicture:
    result = seen.result
    boxes = [
        MarkedBox(_corners(result.found, seen.to_pixels), "", FOUND),
        MarkedBox(_corners(result.true, seen.to_pixels), "", TRUE),
    ]
    return BoxPicture(name, f"“{result.expression}”: IoU {result.iou:.2f}", pixels, {PANEL: boxes})


def _corners(box: Sequence[float], affine: np.ndarray) -> tuple[float, float, float, float]:
    points = np.array(box, dtype=np.float64).reshape(2, 2) @ affine[:2, :2].T + affine[:2, 2]
    (left, top), (right, bottom) = points.round(1).tolist()
    return left, top, right, bottom


def darkened(pixels: Pixels, attention: Tensor) -> Pixels:
    """An image that is bright where it was attended to.

    Args:
        pixels: H W 3.
        attention: Rows x columns of cells that cover it, at least 0.
    """
    most = attention.max().clamp(min=torch.finfo(attention.dtype).tiny)
    size = pixels.shape[:2]
    cells = functional.interpolate((attention / most)[None, None].float(), size, mode="bilinear", align_corners=False)
    brightness = DARKEST + (1 - DARKEST) * cells[0, 0].clamp(0, 1).cpu().numpy()
    return (pixels * brightness[..., None]).round().astype(np.uint8)
