"""Pseudo-boxes: what a teacher finds on one view of an unlabelled image, as targets on another view of it.

Boxes are float64 from the teacher's answer on, in pixels of views. A cut for each class says which are taken for
objects. Those below it, but above a floor, are neither objects nor background: nobody knows. The rest is background.

Our choice throughout: RTDETR-SSOD (PaddleDetection) cuts at 0.7 and gives an image without boxes a box of the first
class; MixPL drops the pool's loss of a whole batch if one of its images has no box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from augment.composition import Composed
from augment.geometry import Affine, Boxes, follow_boxes, invert

Numbers = NDArray[np.float64]
BoxWeight = Literal["score", "one", "zero"]
"""What the box loss of a pseudo-box weighs: its score (which is less where the teacher is less sure), 1, or 0, as in
Unbiased Teacher."""

FLOOR = 0.3
"""Share of the cut from which on something may be an object."""
WEIGHT_OF_EMPTY = 0.25
"""Weight of an image of which the teacher is sure that it shows nothing."""
MOST_ERASED = 0.7
"""Share of a box that may be erased; rectangles that overlap count twice, as in MixPL."""
FIRST_CUT, LOWEST_CUT, HIGHEST_CUT = 0.7, 0.3, 0.9
"""The cut before the first validation, and the bounds of those that validations choose."""
PRECISION = 0.8
"""Share of the boxes above the cut that are right on validation images."""


class Candidates(NamedTuple):
    """What a teacher finds in an image."""

    scores: Numbers
    """N, in [0, 1]."""
    labels: NDArray[np.int64]
    """N."""
    boxes: Boxes
    """N x 4, left, top, right, bottom in pixels of the view that it saw; they may reach beyond it."""

    def only(self, chosen: NDArray[Any]) -> Candidates:
        """Some of them, by a mask or by their places in order."""
        return Candidates(self.scores[chosen], self.labels[chosen], self.boxes[chosen])


class StrongView(NamedTuple):
    """The view that the student learns on."""

    affine: Affine
    """From pixels of the original image."""
    size: tuple[int, int]
    """Height and width, without padding."""
    erased: Boxes = np.zeros((0, 4))
    """Rectangles in its pixels that show nothing of the image."""


@dataclass(frozen=True, eq=False)
class PseudoBoxes:
    """What the student is taught of a view."""

    boxes: Boxes
    """n x 4, left, top, right, bottom in pixels of the strong view."""
    labels: NDArray[np.int64]
    """n."""
    box_weights: Numbers
    """n, by which the losses of each box are multiplied."""
    unsure: Boxes
    """u x 4: where there may be an object, so that whatever is found there is no background."""
    weight: float
    """Weight of the image: 1, or less where it has no box."""

    @property
    def known(self) -> bool:
        """Whether anything that the teacher said of the image can be used."""
        return self.weight > 0 or len(self.unsure) > 0


def sure_and_unsure(
    found: Candidates, cuts: Numbers, floor: float = FLOOR
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which candidates are taken for objects (N), and which may be some (N). What is not finite is neither.

    Args:
        found: In one image.
        cuts: C, the score from which on a box of each class is taken for an object.
        floor: Share of the cut from which on something may be one.
    """
    finite = np.isfinite(found.scores) & np.isfinite(found.boxes).all(axis=1)
    cut = cuts[found.labels]
    sure = finite & (found.scores >= cut)
    return sure, finite & ~sure & (found.scores >= floor * cut)


def pseudo_boxes(
    found: Candidates,
    cuts: Numbers,
    weak: Affine,
    strong: StrongView,
    box_weight: BoxWeight = "score",
    floor: float = FLOOR,
) -> PseudoBoxes:
    """Teach a student on one view what a teacher found on another view of the same image.

    An object of which the strong view shows too little, or that is erased, is no target; where it is seen nothing is
    background. An image without a target counts fully as background, with a small weight, if the teacher saw nothing in
    it that might be an object; else it counts for nothing. So does an image if not all that the teacher says of it is
    finite.

    Args:
        found: On the weak view.
        cuts: C, the score from which on a box of each class is taken for an object.
        weak: Affine from pixels of the original image to those of the weak view.
        strong: The view that the student learns on.
        box_weight: Of the losses of the box.
        floor: Share of the cut from which on something may be an object.
    """
    if not is_finite(found):
        return PseudoBoxes(_NONE, np.zeros(0, dtype=np.int64), np.zeros(0), _NONE, 0.0)
    sure, unsure = sure_and_unsure(found, cuts, floor)
    asked = sure | unsure
    return carried(found.only(asked), sure[asked].astype(float), strong.affine @ invert(weak), strong, box_weight)


def carried(
    found: Candidates, weights: Numbers, to_strong: Affine, strong: StrongView, box_weight: BoxWeight = "score"
) -> PseudoBoxes:
    """Carry what is in an image, or may be, into the view that a student learns on; see :func:`pseudo_boxes`.

    Args:
        found: Objects, and what may be one.
        weights: N, by which the losses of the box of each are multiplied as well; 0 for what may be an object.
        to_strong: Affine from the pixels in which they are given to those of the view.
        strong: The view.
        box_weight: Of the losses of the box.
    """
    followed = follow_boxes(found.boxes, to_strong, strong.size)
    # Less than a pixel shows nothing; what only touches the border may reach inside by a rounding error.
    shown = _shown(followed.boxes)
    target = (weights > 0) & shown & followed.visible & ~hidden(followed.boxes, strong.erased)
    own = {"score": found.scores, "one": np.ones_like(found.scores), "zero": np.zeros_like(found.scores)}[box_weight]
    return PseudoBoxes(
        followed.boxes[target],
        found.labels[target],
        (own * weights * followed.tight)[target],
        followed.boxes[shown & ~target],
        _weight_of(int(target.sum()), int(shown.sum())),
    )


def unite(composed: Composed[Tensor], parts: Sequence[PseudoBoxes]) -> PseudoBoxes:
    """What is taught of an image that is made of several views, each of which it shows as a whole.

    Args:
        composed: The image.
        parts: What is taught of each view in it, in pixels of that view.
    """
    if not all(part.known for part in parts):
        return PseudoBoxes(_NONE, np.zeros(0, dtype=np.int64), np.zeros(0), _NONE, 0.0)
    boxes = np.concatenate([composed.place(*each)[0] for each in enumerate(part.boxes for part in parts)])
    unsure = np.concatenate([composed.place(*each)[0] for each in enumerate(part.unsure for part in parts)])
    whole = PseudoBoxes(
        boxes,
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.box_weights for part in parts]),
        unsure[_shown(unsure)],
        1.0,
    )
    return only(whole, _shown(boxes))


def without_hidden(taught: PseudoBoxes, erased: Boxes) -> PseudoBoxes:
    """What is taught after rectangles (k x 4, pixels of the view) were erased: where a box is hidden, nothing is."""
    if not taught.known:
        return taught
    gone = hidden(taught.boxes, erased)
    return only(replace(taught, unsure=np.concatenate([taught.unsure, taught.boxes[gone]])), ~gone)


def only(taught: PseudoBoxes, kept: NDArray[np.bool_]) -> PseudoBoxes:
    """Some of the boxes of an image (n), and its weight with these alone."""
    weight = _weight_of(int(kept.sum()), len(taught.unsure) + int(kept.sum()))
    return PseudoBoxes(taught.boxes[kept], taught.labels[kept], taught.box_weights[kept], taught.unsure, weight)


class Judged(NamedTuple):
    """What a teacher says of an image, for the figures of its health."""

    labels: NDArray[np.int64]
    """n, of all that may be objects."""
    accepted: NDArray[np.bool_]
    """n, whether each is taken for one."""
    areas: Numbers
    """n, in pixels of the original image."""
    finite: bool
    """Whether all that it returned is."""


def judged(found: Candidates, cuts: Numbers, weak: Affine) -> Judged:
    """Which candidates on a weak view are taken for objects, before anything is known of the strong view.

    Args:
        found: On the weak view.
        cuts: C, the score from which on a box of each class is taken for an object.
        weak: Affine from pixels of the original image to those of the weak view.
    """
    sure, unsure = sure_and_unsure(found, cuts)
    asked = sure | unsure
    areas = _areas(found.boxes[asked]) / abs(float(np.linalg.det(weak[:2, :2])))
    return Judged(found.labels[asked], sure[asked], areas, is_finite(found))


def hidden(boxes: Boxes, erased: Boxes) -> NDArray[np.bool_]:
    """Which boxes (n) have lost more than :data:`MOST_ERASED` of their area to erased rectangles (k x 4)."""
    inner = np.minimum(boxes[:, None, 2:], erased[None, :, 2:]) - np.maximum(boxes[:, None, :2], erased[None, :, :2])
    lost: Numbers = inner.clip(min=0).prod(axis=-1).sum(axis=1)
    gone: NDArray[np.bool_] = lost > MOST_ERASED * _areas(boxes)
    return gone


def precise_cut(scores: Numbers, right: NDArray[np.bool_]) -> float:
    """The lowest score from which on four in five boxes are right, but neither very low nor very high.

    Args:
        scores: n, of boxes of a class on validation images, which lie in [0, 1].
        right: n, whether each hits an object at an IoU of 0.5.
    """
    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], np.cumsum(right[order])
    precise = hits / np.arange(1, len(falling) + 1) >= PRECISION
    precise[:-1] &= falling[:-1] > falling[1:]  # boxes of one score are taken together
    reached = falling[precise]
    return float(np.clip(reached[-1], LOWEST_CUT, HIGHEST_CUT)) if len(reached) else HIGHEST_CUT


def class_cuts(chosen: dict[str, float], classes: Sequence[str]) -> Numbers:
    """The cut of each class (C): what a validation has chosen, or that of the beginning."""
    return np.array([chosen.get(name, FIRST_CUT) for name in classes], dtype=np.float64)


_NONE: Boxes = np.zeros((0, 4))


def _weight_of(targets: int, shown: int) -> float:
    """The weight of an image with so many boxes among so many places that may show an object."""
    return 1.0 if targets else 0.0 if shown else WEIGHT_OF_EMPTY


def _shown(boxes: Boxes) -> NDArray[np.bool_]:
    """Which boxes show anything: less than a pixel does not."""
    shown: NDArray[np.bool_] = np.all(boxes[:, 2:] - boxes[:, :2] >= 1, axis=1)
    return shown


def is_finite(found: Candidates) -> bool:
    """Whether all that a teacher says of an image is."""
    return bool(np.isfinite(found.scores).all() and np.isfinite(found.boxes).all())


def _areas(boxes: Boxes) -> Numbers:
    sides: Numbers = boxes[:, 2:] - boxes[:, :2]
    return sides[:, 0] * sides[:, 1]
