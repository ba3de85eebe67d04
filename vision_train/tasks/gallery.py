"""The most telling samples of one pass, kept with what is shown of them; memory does not grow with the split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from vision_train.previews import Pixels
from vision_train.processes import gather_objects
from vision_train.recipe.preprocessing import Preprocessing

Entry = TypeVar("Entry")


class Gallery(Generic[Entry]):
    """Keeps the samples that rank first.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: dict[str, tuple[Any, Entry]] = {}

    def wants(self, name: str, rank: Any) -> bool:
        """Whether a sample would be kept, so that nothing is drawn in vain. A sample that is kept is not wanted again.

        Args:
            name: Id of the sample.
            rank: Its place; the smallest come first. Ranks of one gallery are compared with one another.
        """
        if name in self._kept:
            return False
        return len(self._kept) < self.most or (rank, name) < max(self._places())

    def add(self, name: str, rank: Any, entry: Entry) -> None:
        """Keep a sample, and drop the last one if they have become too many."""
        self._kept[name] = (rank, entry)
        if len(self._kept) > self.most:
            del self._kept[max(self._places())[1]]

    def change(self, made: Callable[[Entry], Entry]) -> None:
        """Put something else in the place of what is kept of each sample."""
        self._kept = {name: (rank, made(entry)) for name, (rank, entry) in self._kept.items()}

    def gather(self) -> dict[str, Entry]:
        """The first samples of all processes, by id and in order. A collective call."""
        merged = {name: kept for part in gather_objects(self._kept) for name, kept in part.items()}
        first = sorted(merged, key=lambda name: (merged[name][0], name))[: self.most]
        return {name: merged[name][1] for name in first}

    def _places(self) -> list[tuple[Any, str]]:
        return [(rank, name) for name, (rank, _) in self._kept.items()]


def pixels_of(image: Tensor, preprocessing: Preprocessing) -> Pixels:
    """What a normalised image (3 H W) looks like, H W 3, uint8."""
    mean, std = (torch.tensor(values, dtype=torch.float32) for values in (preprocessing.mean, preprocessing.std))
    levels = (image.detach().float().cpu().permute(1, 2, 0) * std + mean).clamp(0, 1) * 255
    return np.asarray(levels.round().to(torch.uint8))
