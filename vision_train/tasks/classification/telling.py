"""The images of a test pass that tell most: the worst mistakes, and where the network looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from vision_train.artefacts import Artefact
from vision_train.previews import Pixels
from vision_train.tasks.classification.attended import AttendedImages
from vision_train.tasks.classification.mistakes import KEPT, Mistake, add_mistake, mistakes_grid, wrong_rows
from vision_train.tasks.gallery import Gallery


class TellingImages:
    """Keeps them.

    Args:
        network: The classifier.
        size: Height and width of the images.
        pixels_of: A normalised image, 3 H W -> H W 3, uint8.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int], pixels_of: Callable[[Tensor], Pixels]) -> None:
        self._pixels_of = pixels_of
        self._mistakes: Gallery[Mistake] = Gallery(KEPT)
        self._attended = AttendedImages(network, size, pixels_of)

    def consider(self, batch: Mapping[str, Any], wrong: Tensor, loss: Tensor, caption: Callable[[int], str]) -> None:
        """Keep those of a batch that rank first.

        Args:
            batch: B images.
            wrong: B, bool.
            loss: B, on the CPU.
            caption: From the place of an image in the batch to what its picture says.
        """
        ids, images = batch["id"], batch["image"]
        for place in wrong_rows(self._mistakes, ids, wrong, loss):
            add_mistake(self._mistakes, ids[place], loss[place].item(), caption(place), self._pixels_of(images[place]))
        self._attended.consider(ids, images, loss, caption)

    def artefacts(self, split: str, note: str) -> list[Artefact]:
        """Their pictures, of all processes. A collective call.

        Args:
            split: What was tested.
            note: What the pictures of mistakes show.
        """
        return [mistakes_grid(self._mistakes, split, note), *self._attended.artefacts(split)]
