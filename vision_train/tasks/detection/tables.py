"""Tables of a pass of detection: what there was, what went wrong, and how each class and size of objects fared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vision_train.artefacts import Table
from vision_train.tasks.detection.errors import ERRORS, Judged, Verdict, costs
from vision_train.tasks.detection.results import ImageResult, Numbers, Results

SMALL, LARGE = 32**2, 96**2
"""Areas in pixels at which objects of medium size begin and end, as COCO has it."""
SIZES = {"small": f"below {32} x {32}", "medium": f"up to {96} x {96}", "large": "larger"}
NAMED = 10
"""So many classes are named in a sentence."""


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


def summary_table(shown: Sequence[Shown], classes: Sequence[str], split: str) -> Table:
    """How much there was and was found, and in words what could not be measured."""
    objects = _per_class([each.result.true_labels for each in shown], len(classes))
    rows = [
        ["images", len(shown)],
        ["images without objects", sum(not len(each.result.true_labels) for each in shown)],
        ["objects", int(objects.sum())],
        ["objects found", sum(len(each.hits) for each in shown)],
        ["detections from the thresholds on", sum(len(each.counted) for each in shown)],
        ["ignored regions", sum(len(each.result.ignored) for each in shown)],
    ]
    columns = ["what", "number"]
    return Table(f"{split}_summary", f"Result on {split}", columns, rows, " ".join(_remarks(shown, objects, classes)))


def _remarks(shown: Sequence[Shown], objects: np.ndarray, classes: Sequence[str]) -> list[str]:
    if not objects.sum():
        return ["There is no object in these images, so that there is no average precision."]
    said = []
    if not any(len(each.result.scores) for each in shown):
        said.append("Nothing was found in any image.")
    absent = [name for name, count in zip(classes, objects, strict=True) if not count]
    if absent:
        named = ", ".join(absent[:NAMED]) + (f" and {len(absent) - NAMED} more" if len(absent) > NAMED else "")
        said.append(f"No object here is of {named}: averages leave {'it' if len(absent) == 1 else 'them'} out.")
    return said


def error_table(results: Results, shown: Sequence[Shown], classes: Sequence[str], split: str) -> Table:
    """The errors of each kind and what they cost."""
    found = costs(results, classes)
    rows = [
        [
            name,
            meaning,
            None if math.isnan(found[error].ap50) else round(found[error].ap50, 4),
            sum(each.judged.count(error) for each in shown),
            found[error].count,
        ]
        for error, (name, meaning) in ERRORS.items()
    ]
    note = (
        "Kinds and costs as TIDE defines them (Bolya et al., ECCV 2020). The cost is the AP50 that would be gained if "
        "errors of this kind alone were mended; costs do not add up. It is measured over all detections, most of which "
        "are improbable; those from the thresholds on are what a user of the detector sees."
    )
    columns = ["error", "a detection that", "AP50 lost", "from thresholds on", "of all detections"]
    return Table(f"{split}_errors", f"Errors on {split}", columns, rows, note)


def class_table(
    shown: Sequence[Shown], classes: Sequence[str], precision: np.ndarray, thresholds: Numbers, split: str
) -> Table:
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
    rows = []
    for index, name in enumerate(classes):
        of_class = precision[:, :, index]
        there = bool((of_class > -1).any())
        ap, ap50 = (float(each.mean()) if there else None for each in (of_class, of_class[0]))
        right = hits[index] / claimed[index] if claimed[index] else None
        recall = hits[index] / objects[index] if objects[index] else None
        numbers = [int(objects[index]), int(claimed[index]), ap, ap50, right, recall]
        rows.append([name, *numbers, f"{thresholds[index]:.2f}"])
    note = "Detections, precision and recall count from the threshold of the class on, at IoU 0.5."
    columns = ["class", "objects", "detections", "AP", "AP50", "precision", "recall", "threshold"]
    return Table(f"{split}_classes", f"Classes of {split}", columns, rows, note)


def size_table(shown: Sequence[Shown], precision: np.ndarray, split: str) -> Table:
    """Objects and detections of each size; ``precision`` is 10 x 101 x K x 4, all sizes first."""
    objects = _per_size([each.result.true_boxes for each in shown])
    found = _per_size([each.result.true_boxes[each.hits] for each in shown])
    claimed = _per_size([each.result.boxes[each.counted] for each in shown])
    rows = []
    for index, (name, range_) in enumerate(SIZES.items()):
        of_size = precision[..., index + 1]
        there = of_size[of_size > -1]
        recall = float(found[index] / objects[index]) if objects[index] else None
        ap = float(there.mean()) if there.size else None
        rows.append([f"{name}, {range_}", int(objects[index]), int(claimed[index]), ap, recall])
    columns = ["size in pixels", "objects", "detections", "AP", "recall"]
    note = "Detections and recall count from the thresholds on, at IoU 0.5."
    return Table(f"{split}_sizes", f"Sizes of boxes of {split}", columns, rows, note)


def _per_class(labels: Sequence[np.ndarray], classes: int) -> np.ndarray:
    return np.bincount(np.concatenate([*labels, np.zeros(0, dtype=np.int64)]), minlength=classes)


def _per_size(boxes: Sequence[Numbers]) -> np.ndarray:
    together = np.concatenate([*boxes, np.zeros((0, 4))])
    areas = np.prod(together[:, 2:] - together[:, :2], axis=1)
    return np.array([(areas < SMALL).sum(), ((areas >= SMALL) & (areas <= LARGE)).sum(), (areas > LARGE).sum()])
