"""Pseudo-labels that are boxes, and a vote on them.

That self-training may count the votes of several networks is published for classes; how boxes are voted on is our
choice throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_train.files import escape_name
from vision_train.semi.boxes import WEIGHT_OF_EMPTY, Candidates, Numbers
from vision_train.semi.label_file import PseudoLabel, cell

BOX_COLUMNS = ("path", "label", "x", "y", "width", "height", "score", "weight", "kept", "round", "share")
"""Columns of a file of boxes; those of the scores of images follow, with :data:`OF_IMAGE` before their names."""
OF_IMAGE = "image_"
"""Before the name of a score of a whole image, since boxes have a score too."""
SAME_OBJECT = 0.5
"""IoU from which on boxes of one class are taken for the same object."""
LEAST_AGREEMENT = 0.5
"""Share of the voters that have to find an object."""


@dataclass(frozen=True)
class LabelledBox:
    """A box of a pseudo-labelled image."""

    label: str
    corners: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the original image."""
    score: float = 1.0
    weight: float = 1.0
    """How much it counts; 0 for a region where there may be an object, so that nothing in it is background."""
    share: float = 1.0
    """Share of the voters that find it."""


@dataclass(frozen=True)
class BoxLabel(PseudoLabel):
    """What was said of one image of a pool; without boxes it is background, if it is kept."""

    boxes: tuple[LabelledBox, ...] = ()

    @property
    def named(self) -> set[str]:
        """The classes that it names."""
        return {box.label for box in self.boxes}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each box; of an image without any one row that names no class."""
        of_image = {"kept": int(self.kept), "round": self.round}
        scores = {f"{OF_IMAGE}{name}": cell(score) for name, score in self.scores.items()}
        if not self.boxes:
            empty: dict[str, Any] = dict.fromkeys(BOX_COLUMNS, "")
            weight = WEIGHT_OF_EMPTY if self.kept else 0.0
            return [empty | {"path": escape_name(self.id), "weight": weight} | of_image | scores]
        return [
            dict.fromkeys(BOX_COLUMNS, "")
            | {"path": escape_name(self.id), "label": box.label, **_place(box)}
            | {"score": cell(box.score), "weight": box.weight, "share": cell(box.share)}
            | of_image
            | scores
            for box in self.boxes
        ]


def _place(box: LabelledBox) -> dict[str, str]:
    left, top, right, bottom = box.corners
    numbers = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return {name: repr(float(number)) for name, number in numbers.items()}


class Voted(NamedTuple):
    """What one or several networks say of an image, in pixels of the original."""

    found: Candidates
    """Objects, and what may be one."""
    sure: NDArray[np.bool_]
    """N, whether each is taken for an object."""
    shares: Numbers
    """N, of the voters that find it."""


def vote_boxes(voters: Sequence[tuple[Candidates, NDArray[np.bool_]]]) -> Voted:
    """Keep the objects that at least half of the voters find; the order of the voters does not matter.

    From the highest score down, each box gathers of every other voter the box of its class that overlaps it most, by an
    IoU of 0.5 or more; what is gathered is one object, with the mean of the boxes and of the scores. What fewer voters
    find, or what one is not sure of, is where there may be an object.

    Args:
        voters: V times the candidates in one image, and whether the voter is sure of each.
    """
    if len(voters) == 1:
        found, sure = voters[0]
        return Voted(found, sure, np.ones(len(sure)))
    sure_of = _together([found.only(sure) for found, sure in voters])
    voter = np.repeat(np.arange(len(voters)), [int(sure.sum()) for _, sure in voters])
    order = np.lexsort((*sure_of.boxes.T, sure_of.labels, -sure_of.scores))
    sure_of, voter = sure_of.only(order), voter[order]
    groups = _gathered(sure_of, voter)
    merged = Candidates(
        np.array([sure_of.scores[group].mean() for group in groups], dtype=np.float64),
        np.array([sure_of.labels[group[0]] for group in groups], dtype=np.int64),
        np.array([sure_of.boxes[group].mean(axis=0) for group in groups], dtype=np.float64).reshape(-1, 4),
    )
    shares = np.array([len(group) / len(voters) for group in groups], dtype=np.float64)
    doubtful = _together([found.only(~sure) for found, sure in voters])
    doubtful = doubtful.only(np.lexsort((*doubtful.boxes.T, doubtful.labels, -doubtful.scores)))
    return Voted(
        _together([merged, doubtful]),
        np.concatenate([shares >= LEAST_AGREEMENT, np.zeros(len(doubtful.scores), dtype=bool)]),
        np.concatenate([shares, np.full(len(doubtful.scores), 1 / len(voters))]),
    )


def found_by_both(first: Candidates, second: Candidates) -> tuple[int, int]:
    """How many objects one of two networks finds in an image, or the other, and how many both do."""
    found = [(each, np.ones(len(each.scores), dtype=bool)) for each in (first, second)]
    shares = vote_boxes(found).shares
    return len(shares), int((shares == 1).sum())


def _gathered(found: Candidates, voter: NDArray[np.int64]) -> list[list[int]]:
    """Places of the boxes of each object, at most one of each voter; the boxes are in order already."""
    overlaps = _iou(found.boxes) * (found.labels[:, None] == found.labels)
    free, groups = np.ones(len(voter), dtype=bool), []
    for first in range(len(voter)):
        if not free[first]:
            continue
        group = [first]
        for other in np.unique(voter[voter != voter[first]]):
            alike = np.where(free & (voter == other), overlaps[first], 0.0)
            if alike.max() >= SAME_OBJECT:
                group.append(int(alike.argmax()))
        free[group] = False
        groups.append(sorted(group))
    return groups


def _together(parts: Sequence[Candidates]) -> Candidates:
    scores, labels, boxes = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Candidates(scores, labels, boxes)


def _iou(boxes: Numbers) -> Numbers:
    """IoU of all pairs, n x n."""
    low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    inner = (high - low).clip(min=0).prod(axis=-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    union: Numbers = areas[:, None] + areas - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
