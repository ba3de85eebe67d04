"""Health of a teacher of a detector: how many boxes it teaches, of which classes and sizes, beside labelled images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vision_train.artefacts import Table
from vision_train.semi.boxes import Judged
from vision_train.semi.health import PoolCounts, PoolFigures, distance_to_prior, normalised_entropy
from vision_train.semi.monitor import COLLAPSED, UNEVEN, Monitor, Reading, Rule, Sign
from vision_train.wording import percent

SIDES = (8, 16, 32, 64, 128, 256, 512)
"""Where the bins of the histogram of sizes part, in pixels of the original: the root of a box's area."""
MANY, FLOODED, SCARCE = 1.5, 3.0, 0.1
"""Pseudo-boxes of an image over the boxes of a labelled one. Our choice."""
OTHER_SIZES = 0.4
"""Share of the pseudo-boxes that would have to be of another size for the histogram of labelled boxes. Our choice."""


@dataclass(frozen=True)
class BoxFigures(PoolFigures):
    """What a teacher said of the pool since the last reading.

    ``accepted`` is the share of what may be an object that is taken for one, and ``agreement`` the share of the objects
    which student or teacher find that both do.
    """

    boxes: float
    """Pseudo-boxes of an image."""
    labelled_boxes: float
    """Boxes of a labelled image."""
    sizes: tuple[float, ...]
    """Share of the pseudo-boxes in each bin of :data:`SIDES`."""
    labelled_sizes: tuple[float, ...]
    """Likewise of the labelled boxes that were learnt meanwhile."""

    @property
    def further(self) -> dict[str, float]:
        """Boxes of an image, and how far their sizes are from those of labelled boxes."""
        return {"boxes": self.boxes, "other_sizes": distance_to_prior(self.sizes, self.labelled_sizes)}

    def tables(self) -> list[Table]:
        """The sizes of pseudo-boxes beside those of labelled ones."""
        edges = [0, *SIDES]
        names = [f"{low} to {high}" for low, high in pairwise(edges)] + [f"{edges[-1]} and more"]
        rows: list[list[Any]] = [list(row) for row in zip(names, self.labelled_sizes, self.sizes, strict=True)]
        columns = ["side in pixels", "share of labelled boxes", "share of pseudo-boxes"]
        title = "Sizes of pseudo-boxes since the last validation"
        note = f"On average {self.boxes:.2f} boxes in the pool, and {self.labelled_boxes:.2f} where people drew them."
        return [Table("pool_sizes", title, columns, rows, note, columns[1:])]


class BoxCounts(PoolCounts):
    """Counts pseudo-boxes, and the labelled boxes beside them, over all processes.

    Args:
        classes: C.
    """

    sizes: Tensor
    """2 x bins: pseudo-boxes and labelled boxes of each size, int64."""
    labelled: Tensor
    """Labelled images."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.register_buffer("sizes", torch.zeros(2, len(SIDES) + 1, dtype=torch.long))
        self.register_buffer("labelled", torch.tensor(0))

    @torch.no_grad()
    def add_boxes(
        self, pool: Sequence[Judged], labelled_areas: Sequence[Tensor], agreement: tuple[int, int] = (0, 0)
    ) -> None:
        """Count a step; all processes take part.

        Args:
            pool: What the teacher says of each image of the pool.
            labelled_areas: Of the boxes of each labelled image, in pixels of the original.
            agreement: Boxes that the teacher or the student takes for objects, and those that both do.
        """
        device, classes = self.labels.device, len(self.labels)
        labels = np.concatenate([np.zeros(0, dtype=np.int64), *(each.labels for each in pool)])
        accepted = np.concatenate([np.zeros(0, dtype=bool), *(each.accepted for each in pool)])
        areas = np.concatenate([np.zeros(0), *(each.areas for each in pool)])
        both = [torch.from_numpy(areas[accepted]).to(device), torch.cat([*labelled_areas]).to(device)]
        edges = torch.tensor(SIDES, dtype=torch.float64, device=device)
        sizes = [
            torch.bincount(torch.bucketize(each.double().sqrt(), edges, right=True), minlength=len(SIDES) + 1)
            for each in both
        ]
        rows = torch.tensor([len(pool), sum(not each.finite for each in pool), *agreement], device=device)
        of_label, weights = (np.bincount(each, minlength=classes) for each in (labels, labels[accepted]))
        self._count(
            (self.labels, torch.from_numpy(of_label).to(device)),
            (self.weights, torch.from_numpy(weights).to(self.weights)),
            (self.rows, rows),
            (self.sizes, torch.stack(sizes)),
            (self.labelled, torch.tensor(len(labelled_areas), device=device)),
        )

    def figures(self) -> BoxFigures:
        """What was counted so far; the same in all processes."""
        pool, labelled = self.sizes.tolist()
        found = super().figures()
        candidates = int(self.labels.sum())
        values = {**vars(found), "accepted": _divide(sum(pool), candidates)}
        return BoxFigures(
            **values,
            boxes=_divide(sum(pool), found.images),
            labelled_boxes=_divide(sum(labelled), int(self.labelled)),
            sizes=tuple(_divide(count, sum(pool)) for count in pool),
            labelled_sizes=tuple(_divide(count, sum(labelled)) for count in labelled),
        )


class BoxMonitor(Monitor):
    """Judges the readings of a detector's teacher."""

    figures = BoxFigures

    def rules(self) -> Sequence[Rule]:
        """What a reading is held against, in the order of the messages."""
        return (
            self._finite,
            self._count,
            self._accuracy,
            self._score,
            self._boxes_of_classes,
            self._never_accepted,
            self._sizes,
            self._agreement,
            self._losses,
        )

    def _count(self, reading: Reading) -> Iterator[Sign]:
        found = _figures(reading)
        ratio = _divide(found.boxes, found.labelled_boxes)
        if found.images and ratio < SCARCE:
            yield Sign(
                "number of boxes",
                f"the teacher teaches {found.boxes:.2f} boxes on average of the {self.noun} of the pool, and labelled "
                f"{self.noun} have {found.labelled_boxes:.2f}; train longer on those alone before the pool is used "
                f"(semi.burn_in), or label more {self.noun}",
            )
        elif ratio > MANY:
            yield Sign(
                "number of boxes",
                f"the teacher teaches {found.boxes:.2f} boxes on average of the {self.noun} of the pool, and labelled "
                f"{self.noun} have {found.labelled_boxes:.2f}: unless the pool shows more objects, many are found "
                "twice or are none; "
                f"train longer on labelled {self.noun} alone (semi.burn_in), or use more validation {self.noun}",
                stops=ratio > FLOODED,
            )

    def _boxes_of_classes(self, reading: Reading) -> Iterator[Sign]:
        shares, expected = reading.pool.accepted_shares, normalised_entropy(self.prior)
        entropy = normalised_entropy(shares)
        if entropy < UNEVEN * expected:
            yield Sign(
                "classes of pseudo-boxes",
                f"pseudo-boxes gather in few classes: {percent(distance_to_prior(shares, self.prior))} of them would "
                f"have to change class for the frequencies of the labelled boxes; label more {self.noun} of the other "
                f"classes, or train longer on labelled {self.noun} alone (semi.burn_in)",
                stops=entropy < COLLAPSED * expected,
            )

    def _sizes(self, reading: Reading) -> Iterator[Sign]:
        found = _figures(reading)
        distance = distance_to_prior(found.sizes, found.labelled_sizes)
        if distance > OTHER_SIZES:
            yield Sign(
                "sizes of pseudo-boxes",
                f"{percent(distance)} of the pseudo-boxes would have to be of another size for the sizes of labelled "
                f"boxes; look whether the pool shows objects from another distance, and leave out {self.noun} that do",
            )


def _figures(reading: Reading) -> BoxFigures:
    assert isinstance(reading.pool, BoxFigures), "the monitor of boxes reads figures of boxes"
    return reading.pool


def _divide(above: float, below: float) -> float:
    return above / below if below else math.nan
