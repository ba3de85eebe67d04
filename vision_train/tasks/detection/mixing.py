"""Unlabelled images that are learnt two by two and four by four, with what a teacher found in each (MixPL).

Source: Chen et al., "Mixed Pseudo Labels for Semi-Supervised Object Detection" (MixPL), 2023, and its official code:
the last 8 views are kept; each view is half-summed with one of the older 4, and the newer 4 make a mosaic, which counts
half. What is drawn depends on the seed, the process and how often was drawn before, so there is no generator to keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from augment.composition import Composed, grid, half_sum
from augment.detection import erase_patches
from vision_train.seeds import derive_seed
from vision_train.semi.boxes import PseudoBoxes, unite, without_hidden
from vision_train.tasks.base import Batch

KEPT = 8
"""Views of which some are mixed in; before there are so many nothing is mixed."""
WEIGHT_OF_MOSAIC = 0.5
CELL, CELL_STEP = (0.5, 1.0), 16
"""Sides of the cells of a mosaic as shares of the recipe's short side (400 to 800 pixels for 800), and what they are
multiples of, so that two of them need no padding."""


class Taught(NamedTuple):
    """Views that are learnt together."""

    view: Batch
    """As ``strong`` of a batch of the pool."""
    boxes: Sequence[PseudoBoxes]
    """What is taught of each."""
    weight: float
    """Their loss is multiplied by it."""


class KeptView(NamedTuple):
    """A view of the pool before anything was erased."""

    image: Tensor
    """3 h w, without padding."""
    boxes: PseudoBoxes


class PoolMixing:
    """Keeps the last views of a process, and mixes them.

    Args:
        seed: Of the run.
        short_side: Of images, in pixels.
    """

    def __init__(self, seed: int, short_side: int) -> None:
        self._seed, self._short_side = seed, short_side
        self._kept: list[KeptView] = []
        self._turns = 0

    def mix(self, view: Batch, boxes: Sequence[PseudoBoxes], rank: int) -> list[Taught]:
        """What is learnt in place of the strong views of a step; of all processes at once either mixed or not.

        Args:
            view: ``strong`` of a batch of the pool.
            boxes: What is taught of each of its images.
            rank: Number of the process.
        """
        random = np.random.default_rng(derive_seed(self._seed, "mixing of the pool", self._turns, rank))
        self._turns += 1
        image = view["image"].clone()
        places = zip(view["image"], view["shown"], boxes, strict=True)
        own = [KeptView(each[:, :height, :width].clone(), found) for each, (height, width), found in places]
        self._kept = [KeptView(each.image.to(image.device), each.boxes) for each in [*self._kept, *own][-KEPT:]]
        full = len(self._kept) == KEPT
        learnt = []
        for row, one in zip(image, own, strict=True):
            mixed = self._half_sum(one, random) if full else one
            inner = row[:, : mixed.image.shape[1], : mixed.image.shape[2]]
            inner.copy_(mixed.image)
            learnt.append(without_hidden(mixed.boxes, erase_patches(inner, random)))
        found = Taught({**view, "image": image}, learnt, 1.0)
        return [found, self._mosaic(random)] if full else [found]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know, as tensors and plain numbers."""
        kept = [{"image": each.image.cpu(), **_tensors(each.boxes)} for each in self._kept]
        return {"turns": self._turns, "kept": kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            KeyError: An entry is missing.
        """
        self._turns = state["turns"]
        self._kept = [KeptView(each["image"], _pseudo_boxes(each)) for each in state["kept"]]

    def _half_sum(self, one: KeptView, random: np.random.Generator) -> KeptView:
        """A view with one of the older half on it, which is not itself."""
        older = [each for each in self._kept[: KEPT // 2] if each.boxes is not one.boxes]
        other = older[int(random.integers(len(older)))]
        return _united(half_sum(one.image, other.image, random), [one, other])

    def _mosaic(self, random: np.random.Generator) -> Taught:
        """The newer half, two by two."""
        newer = self._kept[KEPT // 2 :]
        sides = (self._short_side * random.uniform(*CELL) for _ in range(2))
        height, width = (max(1, round(side / CELL_STEP)) * CELL_STEP for side in sides)
        mixed = _united(grid([each.image for each in newer], (height, width)), newer)
        boxes = without_hidden(mixed.boxes, erase_patches(mixed.image, random))
        rows, columns = mixed.image.shape[1:]
        padding = torch.zeros(1, rows, columns, dtype=torch.bool, device=mixed.image.device)
        view = {"image": mixed.image[None], "padding_mask": padding, "shown": [(rows, columns)]}
        return Taught(view, [boxes], WEIGHT_OF_MOSAIC)


def _united(composed: Composed[Tensor], parts: Sequence[KeptView]) -> KeptView:
    return KeptView(composed.image, unite(composed, [part.boxes for part in parts]))


_ARRAYS = ("boxes", "labels", "box_weights", "unsure")


def _tensors(boxes: PseudoBoxes) -> dict[str, Any]:
    return {name: torch.from_numpy(getattr(boxes, name)) for name in _ARRAYS} | {"weight": boxes.weight}


def _pseudo_boxes(state: Mapping[str, Any]) -> PseudoBoxes:
    return PseudoBoxes(**{name: state[name].numpy() for name in _ARRAYS}, weight=state["weight"])
