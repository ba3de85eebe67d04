"""Average precision as COCO defines it, measured by faster-coco-eval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from torchvision.ops import batched_nms

from vision_train.artefacts import Metric
from vision_train.tasks.detection.results import ImageResult, Results, areas

NMS_OVERLAP = 0.5
"""IoU from which a box of the same class counts as a double."""

AP = Metric("ap", "AP (IoU 0.50 to 0.95)", shown="always", is_share=True)
AP50 = Metric("ap50", "AP at IoU 0.50", shown="always", is_share=True)
AP75 = Metric("ap75", "AP at IoU 0.75", is_share=True)
SMALL = Metric("ap_small", "AP of objects below 32 x 32 pixels", is_share=True)
MEDIUM = Metric("ap_medium", "AP of objects up to 96 x 96 pixels", is_share=True)
LARGE = Metric("ap_large", "AP of larger objects", is_share=True)
DOUBLES = Metric("ap50_lost_to_doubles", "AP50 lost to doubles", better="less")
"""What AP50 would gain if, of boxes of a class that overlap by IoU 0.5 or more, only the likeliest stayed."""
METRICS = (AP, AP50, AP75, SMALL, MEDIUM, LARGE, DOUBLES)


def measure(results: Results, classes: Sequence[str]) -> dict[str, float]:
    """The metrics of a pass, without those of sizes that no object has; NaN where there is no object at all."""
    precision = precisions(results, classes)
    clean = precisions({name: without_doubles(result) for name, result in results.items()}, classes)
    ap50 = _mean(precision[0, :, :, 0])
    measured = {
        AP.name: _mean(precision[:, :, :, 0]),
        AP50.name: ap50,
        AP75.name: _mean(precision[5, :, :, 0]),
        SMALL.name: _mean(precision[:, :, :, 1]),
        MEDIUM.name: _mean(precision[:, :, :, 2]),
        LARGE.name: _mean(precision[:, :, :, 3]),
        DOUBLES.name: _mean(clean[0, :, :, 0]) - ap50,
    }
    of_sizes = (SMALL.name, MEDIUM.name, LARGE.name)
    return {name: value for name, value in measured.items() if name not in of_sizes or not math.isnan(value)}


def precisions(results: Results, classes: Sequence[str]) -> np.ndarray:
    """Precision at 10 overlaps (0.50 to 0.95), 101 recalls, K classes and 4 ranges of size; -1 where nothing is."""
    images = [{"id": number, "file_name": name} for number, name in enumerate(results)]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes)]
    truths: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, result in enumerate(results.values()):
        truths += _annotations(number, result, len(classes))
        found += [
            {"image_id": number, "category_id": int(label), "bbox": _sides(box), "score": float(score)}
            for label, box, score in zip(result.labels, result.boxes, result.scores, strict=True)
        ]
    for identity, annotation in enumerate(truths, start=1):
        annotation["id"] = identity
    truth = COCO({"images": images, "annotations": truths, "categories": categories})
    if not found:
        return _nothing_found(results, len(classes))
    evaluation = COCOeval_faster(truth, truth.loadRes(found), "bbox", print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[..., -1]


def _annotations(image: int, result: ImageResult, classes: int) -> list[dict[str, Any]]:
    """The truth of an image; an ignored region is a crowd of its class, or of every class."""
    objects = zip(result.true_labels, result.true_boxes, result.object_areas, strict=True)
    rows = [(int(label), box, area, 0) for label, box, area in objects]
    for own, box, area in zip(result.ignored_classes, result.ignored, areas(result.ignored), strict=True):
        rows += [(label, box, area, 1) for label in (range(classes) if own < 0 else [int(own)])]
    return [
        {"image_id": image, "category_id": label, "bbox": _sides(box), "area": float(area), "iscrowd": crowd}
        for label, box, area, crowd in rows
    ]


def _nothing_found(results: Results, classes: int) -> np.ndarray:
    there = {int(label) for result in results.values() for label in result.true_labels}
    precision = np.full((10, 101, classes, 4), -1.0)
    precision[:, :, sorted(there)] = 0.0
    return precision


def _sides(box: np.ndarray) -> list[float]:
    left, top, right, bottom = (float(value) for value in box)
    return [left, top, right - left, bottom - top]


def _mean(precision: np.ndarray) -> float:
    there = precision[precision > -1]
    return float(there.mean()) if there.size else math.nan


def without_doubles(result: ImageResult) -> ImageResult:
    """A result without boxes that overlap a likelier one of their class."""
    boxes, scores, labels = (torch.from_numpy(each) for each in (result.boxes, result.scores, result.labels))
    kept = batched_nms(boxes, scores, labels, NMS_OVERLAP).numpy()
    return replace(result, scores=result.scores[kept], labels=result.labels[kept], boxes=result.boxes[kept])
