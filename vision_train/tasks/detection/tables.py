"""Tables of a pass of detection: what there was, what went wrong, and how each class and size of objects fared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vision_train.artefacts import Table
from vision_train.tasks.detection.errors import ERRORS, Judged, Verdict, costs
from vision_train.tasks.detection.precision import DOUBLES
from vision_train.tasks.detection.results import ImageResult, Numbers, Results, areas
from vision_train.wording import first_named

SMALL, LARGE = 32**2, 96**2
"""Areas in pixels at which objects of medium size begin and end, as COCO has it."""
SIZES = ("small, below 32 x 32", "medium", "large, above 96 x 96")


class Shown(NamedTuple):
    """An image with its detections from the threshold on."""

    result: ImageResult
    judged: Judged

    @property
    def counted(self) -> np.ndarray:
        """Places of its detections that count for or against."""
        return self.judged.places[~self.judged.ignored]

    @property
    def hits(self) -> np.ndarray:
        """The objects that are hit."""
        return self.judged.objects[self.judged.verdicts == Verdict.HIT]


def summary_table(
    shown: Sequence[Shown], classes: Sequence[str], split: str, chosen: str, warnings: Sequence[str]
) -> Table:
    """How much there was and was found, and in words what is wrong with the result.

    Args:
        shown: The images.
        classes: K class names.
        split: What was tested.
        chosen: A sentence on which detections count.
        warnings: Sentences without a full stop.
    """
    objects = _per_class([each.result.true_labels for each in shown], len(classes))
    rows = [
        ["images", len(shown)],
        ["images without objects", sum(not len(each.result.true_labels) for each in shown)],
        ["objects", int(objects.sum())],
        ["objects found", sum(len(each.hits) for each in shown)],
        ["detections that count", sum(len(each.counted) for each in shown)],
        ["ignored regions", sum(len(each.result.ignored) for each in shown)],
    ]
    warned = [f"Warning: {text}." for text in warnings]
    note = " ".join(filter(None, [*warned, _absent(objects, classes), chosen]))
    return Table(f"{split}_summary", f"Result on {split}", ["what", "number"], rows, note)


def lacking(results: Results) -> list[str]:
    """Why there is nothing to measure, as sentences without a full stop."""
    if not any(len(result.true_labels) for result in results.values()):
        return ["there is no object in the images that were tested, so that there is no average precision"]
    if not any(len(result.scores) for result in results.values()):
        return ["nothing was found in any image"]
    return []


def _absent(objects: np.ndarray, classes: Sequence[str]) -> str:
    absent = [name for name, count in zip(classes, objects, strict=True) if not count]
    if not absent or not objects.sum():
        return ""
    return f"No object is of {first_named(absent)}: averages leave {'it' if len(absent) == 1 else 'them'} out."


def error_table(
    results: Results, judged: Sequence[Judged], shown: Sequence[Shown], classes: Sequence[str], split: str
) -> Table:
    """The errors of each kind and what they cost, the most costly first; ``judged`` are all detections."""
    found = costs(results, judged, classes)
    rows: list[list[Any]] = []
    for error in sorted(ERRORS, key=lambda error: -np.nan_to_num(found[error].ap50)):
        lost = None if math.isnan(found[error].ap50) else found[error].ap50
        rows.append([ERRORS[error][0], lost, sum(each.judged.count(error) for each in shown), found[error].count])
    meanings = "\n".join(f"{name}: {meaning}" for name, meaning in ERRORS.values())
    note = (
        "AP50 lost: what AP50 would gain if errors of this kind alone were mended, over all detections, whatever "
        "their scores. Losses do not add up. Counted: errors among the detections that count. Kinds and losses are "
        f"those of TIDE (Bolya et al., ECCV 2020). The metric {DOUBLES.title} is measured by non-maximum suppression.\n"
        f"{meanings}"
    )
    columns = ["error", "AP50 lost", "counted", "in all"]
    return Table(f"{split}_errors", f"Errors on {split}", columns, rows, note, ["AP50 lost"])


def class_tables(
    shown: Sequence[Shown], classes: Sequence[str], precision: np.ndarray, thresholds: Numbers, split: str
) -> list[Table]:
    """Average precision of each class, and what its threshold gives.

    Args:
        shown: The images.
        classes: K class names.
        precision: 10 x 101 x K, -1 where nothing is.
        thresholds: K.
        split: What was tested.
    """
    objects = _per_class([each.result.true_labels for each in shown], len(classes))
    claimed = _per_class([each.result.labels[each.counted] for each in shown], len(classes))
    hits = _per_class([each.result.true_labels[each.hits] for each in shown], len(classes))
    averages, counts = [], []
    for index, name in enumerate(classes):
        of_class = precision[:, :, index]
        there = bool((of_class > -1).any())
        ap, ap50 = (float(each.mean()) if there else None for each in (of_class, of_class[0]))
        averages.append([name, int(objects[index]), ap, ap50])
        shares = [_share(hits[index], whole[index]) for whole in (claimed, objects)]
        counts.append([name, f"{thresholds[index]:.2f}", int(claimed[index]), *shares])
    note = "Of the detections from the threshold of the class on, at IoU 0.5."
    names = f"{split}_classes", f"{split}_detections"
    return [
        Table(
            names[0],
            f"Average precision of each class of {split}",
            ["class", "objects", "AP", "AP50"],
            averages,
            shares=["AP", "AP50"],
        ),
        Table(
            names[1],
            f"Detections of each class of {split}",
            ["class", "threshold", "detections", "precision", "recall"],
            counts,
            note,
            ["precision", "recall"],
        ),
    ]


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def size_table(shown: Sequence[Shown], precision: np.ndarray, split: str) -> Table:
    """Objects and detections of each size; ``precision`` is 10 x 101 x K x 4, all sizes first."""
    objects = _per_size([each.result.object_areas for each in shown])
    found = _per_size([each.result.object_areas[each.hits] for each in shown])
    claimed = _per_size([areas(each.result.boxes[each.counted]) for each in shown])
    rows = []
    for index, name in enumerate(SIZES):
        of_size = precision[..., index + 1]
        there = of_size[of_size > -1]
        ap = float(there.mean()) if there.size else None
        rows.append([name, int(objects[index]), int(claimed[index]), ap, _share(found[index], objects[index])])
    columns = ["size in pixels", "objects", "detections", "AP", "recall"]
    note = "Recall is that of the detections that count, at IoU 0.5."
    return Table(f"{split}_sizes", f"Sizes of boxes of {split}", columns, rows, note, ["AP", "recall"])


def _per_class(labels: Sequence[np.ndarray], classes: int) -> np.ndarray:
    return np.bincount(np.concatenate([*labels, np.zeros(0, dtype=np.int64)]), minlength=classes)


def _per_size(listed: Sequence[Numbers]) -> np.ndarray:
    """How many areas of all images are small, medium and large."""
    together = np.concatenate([*listed, np.zeros(0)])
    small, large = together < SMALL, together > LARGE
    return np.array([small.sum(), (~small & ~large).sum(), large.sum()])
