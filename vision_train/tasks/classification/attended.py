"""Where a classifier looks in the images that it gets most right and most wrong, as pictures for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from models.attention_row import AttentionSource, attention_source, predict_with_attention
from vision_train.artefacts import ImageGrid
from vision_train.previews import Pixels
from vision_train.tasks.gallery import Gallery

KEPT = 6
"""Images of each end."""
SIDE = 224
"""Longer side of a picture in pixels; small ones are enlarged by a whole factor."""
GAP = 6
HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=np.float64)
"""Colours of little to much attention, evenly spaced; those of matplotlib's inferno."""
PICTURE = 0.35
"""Share of the picture in the colours of the map, so that one sees what is looked at."""
OF = {"class token": "of the class token", "column mean": "that each cell receives on average"}


@dataclass(frozen=True)
class Attended:
    """An image that may be shown."""

    image: Tensor
    """3 H W, normalised, where the network is; on its way to another process on the CPU."""
    caption: str


class AttendedImages:
    """Keeps images with the highest and the lowest loss, and shows where the network looks in them.

    The network is asked once, at the end, about those that are shown: of a pass over many images most that are kept for
    a while give way to others.

    Args:
        network: The classifier.
        size: Height and width of the images.
        pixels_of: A normalised image, 3 H W -> H W 3, uint8.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int], pixels_of: Callable[[Tensor], Pixels]) -> None:
        self.network = network
        self.pixels_of = pixels_of
        self.source: AttentionSource | None
        try:
            self.source = attention_source(network, size)
        except ValueError:  # a convolutional network has nothing to show
            self.source = None
        self._worst: Gallery[Attended] = Gallery(KEPT)
        self._best: Gallery[Attended] = Gallery(KEPT)

    def consider(self, ids: Sequence[str], images: Tensor, loss: Tensor, caption: Callable[[int], str]) -> None:
        """Keep those of a batch that rank first.

        Args:
            ids: B.
            images: B 3 H W, normalised.
            loss: B, on the CPU.
            caption: From the place of an image in the batch to what its picture says.
        """
        if self.source is None or not loss.isfinite().all():
            return
        order = loss.argsort(stable=True).tolist()
        ranked = [(self._best, place, loss[place].item()) for place in order[:KEPT]]
        ranked += [(self._worst, place, -loss[place].item()) for place in order[-KEPT:]]
        for gallery, place, rank in ranked:
            if gallery.wants(ids[place], rank):
                # A copy, which does not keep the whole batch in memory.
                gallery.add(ids[place], rank, Attended(images[place].clone(), caption(place)))

    def artefacts(self, split: str) -> list[ImageGrid]:
        """Pictures of all processes, the worst first; nothing of a network without attention. A collective call."""
        ends = (("worst", self._worst, "high"), ("best", self._best, "low"))
        grids = []
        for name, gallery, loss in ends:
            gallery.change(lambda each: replace(each, image=each.image.cpu()))
            found = gallery.gather()
            if not found or self.source is None:
                continue
            note = (
                f"Images with the {loss}est loss, each beside the attention {OF[self.source.kind]} in the last block, "
                f"the mean over its heads, in {self.source.grid[0]} x {self.source.grid[1]} cells. Colours go from "
                "none to the most that a cell of this image has."
            )
            captions = [f"{each.caption}\n{key}" for key, each in found.items()]
            title = f"Where the network looks in the {name} images of {split}"
            grids.append(ImageGrid(f"{split}_looks_{loss}_loss", title, self._drawn([*found.values()]), captions, note))
        return grids

    def _drawn(self, found: Sequence[Attended]) -> list[Pixels]:
        """Each image beside its attention."""
        assert self.source is not None
        images = torch.stack([each.image for each in found]).to(next(self.network.parameters()).device)
        # A compiled network would be compiled anew for this number of images.
        with torch.compiler.set_stance("force_eager"):
            attention = predict_with_attention(self.network, images).attention.float().cpu().numpy()
        maps = [cells.reshape(self.source.grid) for cells in attention]
        return [beside(self.pixels_of(image), cells) for image, cells in zip(images, maps, strict=True)]


def beside(pixels: Pixels, cells: np.ndarray) -> Pixels:
    """A picture and, at its right, the same under the colours of its attention.

    Args:
        pixels: H W 3.
        cells: Attention on a grid of rows and columns, none below 0.
    """
    image = Image.fromarray(pixels)
    if (factor := SIDE // max(image.size)) > 1:
        image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    image.thumbnail((SIDE, SIDE))
    most = cells.max()
    shares = Image.fromarray((cells / most if most > 0 else cells).astype(np.float32))
    heat = np.asarray(shares.resize(image.size, Image.Resampling.BILINEAR))
    places = np.linspace(0, 1, len(HEAT))
    colours = np.stack([np.interp(heat, places, HEAT[:, channel]) for channel in range(3)], axis=2)
    grey = np.asarray(image.convert("L"), dtype=np.float64)[..., None]
    drawn = (PICTURE * grey + (1 - PICTURE) * colours).round().astype(np.uint8)
    gap = np.full((image.height, GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([np.asarray(image), gap, drawn], axis=1)
