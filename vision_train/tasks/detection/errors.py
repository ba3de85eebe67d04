"""What goes wrong in a pass of detection, and how much average precision each kind of error costs.

The kinds and their order are those of TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020) as its code decides them (github.com/dbolya/tide, ``tidecv/quantify.py``). Two things are COCO's
here, so that the costs are about the AP50 beside them: classes without an object do not count, and of each class the
100 likeliest detections of an image do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from vision_train.statistics.metrics import average_precision
from vision_train.tasks.detection.hits import ignored_share, likeliest, overlap, take
from vision_train.tasks.detection.results import ImageResult, Numbers, Results

FOREGROUND, BACKGROUND = 0.5, 0.1
"""IoU from which a detection may hit an object, and up to which it lies on background."""


class Verdict(IntEnum):
    """What a detection is; the last one, what an object is."""

    HIT = 0
    CLASS = 1
    PLACE = 2
    BOTH = 3
    DOUBLE = 4
    BACKGROUND = 5
    MISSED = 6


ERRORS = {
    Verdict.CLASS: ("wrong class", f"lies on an object of another class (IoU {FOREGROUND} or more)"),
    Verdict.PLACE: ("wrong place", f"lies beside an object of its class (IoU {BACKGROUND} to {FOREGROUND})"),
    Verdict.BOTH: ("wrong class and place", "lies beside an object of another class"),
    Verdict.DOUBLE: ("double", "lies on an object that a likelier detection has found"),
    Verdict.BACKGROUND: ("background", f"lies on no object (IoU below {BACKGROUND})"),
    Verdict.MISSED: ("missed", "an object without a detection of the right class or place"),
}
"""Name of each error, and what it means."""


@dataclass(frozen=True)
class Judged:
    """The detections of an image that count, the likeliest first, and its objects."""

    places: NDArray[np.int64]
    """D: where each detection stands in the result."""
    verdicts: NDArray[np.int64]
    """D, a :class:`Verdict` each."""
    objects: NDArray[np.int64]
    """D: the object that a detection hits or, of the wrong class or place, would have hit; -1 for none."""
    ignored: NDArray[np.bool_]
    """D: hits nothing and lies in an ignored region, so that it is no error; if it ``mends`` one, it may do so."""
    mends: NDArray[np.bool_]
    """D: of the wrong class or place, and the likeliest such detection of an object that none hits."""
    missed: NDArray[np.bool_]
    """n: objects that no detection hits or would have hit."""

    def count(self, error: Verdict) -> int:
        """How many errors of one kind there are."""
        return int(self.missed.sum() if error == Verdict.MISSED else ((self.verdicts == error) & ~self.ignored).sum())


def judge(result: ImageResult, thresholds: Numbers | None = None) -> Judged:
    """Say of each detection what it is.

    Args:
        result: Of one image.
        thresholds: Score of each class from which on detections count; None counts all, as TIDE does.
    """
    places = likeliest(result)
    if thresholds is not None:
        places = places[result.scores[places] >= thresholds[result.labels[places]]]
    labels, boxes = result.labels[places], result.boxes[places]
    same = labels[:, None] == result.true_labels
    overlaps = overlap(boxes, result.true_boxes)
    taken = take(np.where(same, overlaps, -1.0), FOREGROUND)
    free = np.ones(len(result.true_labels), dtype=bool)
    free[taken[taken >= 0]] = False
    ignored = (taken < 0) & (ignored_share(result, places) > FOREGROUND)
    own, other = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
    verdicts = _verdicts(taken, own, other, own * ~free)
    objects = taken.copy()
    for verdict, wanted in ((Verdict.PLACE, own), (Verdict.CLASS, other)):
        rows = np.flatnonzero(verdicts == verdict)
        objects[rows] = wanted[rows].argmax(axis=1) if rows.size else 0
    mends = _first_of_each(objects, np.isin(verdicts, (Verdict.CLASS, Verdict.PLACE)), free)
    missed = free.copy()
    missed[objects[mends]] = False
    return Judged(places, verdicts, objects, ignored, mends, missed)


def _verdicts(taken: np.ndarray, own: np.ndarray, other: np.ndarray, used: np.ndarray) -> np.ndarray:
    """D verdicts, of overlaps (D x n) with objects of the same class, of other classes, and with those that are hit."""
    best_own, best_other, best_used = (np.max(each, axis=1, initial=0.0) for each in (own, other, used))
    there = own.shape[1] > 0
    rules = {
        Verdict.HIT: taken >= 0,
        Verdict.PLACE: (best_own >= BACKGROUND) & (best_own <= FOREGROUND) & there,
        Verdict.CLASS: best_other >= FOREGROUND,
        Verdict.DOUBLE: best_used >= FOREGROUND,
        Verdict.BACKGROUND: np.maximum(best_own, best_other) <= BACKGROUND,
    }
    return np.select(list(rules.values()), list(rules), Verdict.BOTH)


def _first_of_each(objects: np.ndarray, wrong: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The first wrong detection of each free object."""
    rows = np.flatnonzero(wrong)
    rows = rows[free[objects[rows]]]
    _, first = np.unique(objects[rows], return_index=True)
    mends = np.zeros(len(objects), dtype=bool)
    mends[rows[first]] = True
    return mends


@dataclass(frozen=True)
class Cost:
    """Errors of one kind in a pass."""

    count: int
    """Among all detections."""
    ap50: float
    """AP50 that would be gained if they were mended; NaN where there is no object."""


def costs(results: Results, judged: Sequence[Judged], classes: Sequence[str]) -> dict[Verdict, Cost]:
    """Count the errors of each kind, and measure AP50 without them.

    A detection of the wrong class or place is given the right one, if it is the likeliest of an object that none hits,
    and is taken out otherwise. Doubles and detections on background are taken out; missed objects are no longer wanted.

    Args:
        results: Detections and truth of each image.
        judged: All detections of each.
        classes: K class names.
    """
    truths = np.zeros(len(classes), dtype=np.int64)
    missed = truths.copy()
    rows = []
    for result, each in zip(results.values(), judged, strict=True):
        truths += np.bincount(result.true_labels, minlength=len(classes))
        missed += np.bincount(result.true_labels[each.missed], minlength=len(classes))
        labels = result.labels[each.places]
        true = labels.copy()
        true[each.mends] = result.true_labels[each.objects[each.mends]]
        rows.append(np.stack((result.scores[each.places], labels, true, each.verdicts, each.mends, each.ignored)))
    scores, labels, true, verdicts, mends, ignored = np.concatenate(rows, axis=1)
    counted, mends = ignored == 0, mends == 1
    hit = verdicts == Verdict.HIT
    before = _ap50(scores[counted], labels[counted], hit[counted], truths)
    found = {}
    for error in ERRORS:
        wrong = verdicts == error
        kept = np.where(wrong, mends, counted)
        wanted = truths - missed if error == Verdict.MISSED else truths
        # A class of which all are missed keeps its precision of 0 where something is taken for it.
        wanted = np.where((wanted == 0) & np.isin(np.arange(len(classes)), labels[kept]) & (truths > 0), 1, wanted)
        after = _ap50(scores[kept], np.where(wrong, true, labels)[kept], (hit | wrong)[kept], wanted)
        found[error] = Cost(sum(each.count(error) for each in judged), max(after - before, 0.0))
    return found


def _ap50(scores: np.ndarray, labels: np.ndarray, hit: np.ndarray, truths: np.ndarray) -> float:
    columns = {"score": [scores.tolist()], "class_id": [labels.tolist()], "hit": [hit.tolist()], "truths": [truths]}
    return float(average_precision(columns, np.ones((1, 1)))[0])
