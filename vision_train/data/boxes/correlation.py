"""How much the boxes of an image resemble one another: the MC metric of Relation-DETR, beside what chance gives.

The metric is the mean absolute correlation of two boxes of an image, each taken as its four numbers left, top, width
and height in pixels. Random boxes give about 0.5 already, so it says little without the same boxes exchanged among
images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_train.data.boxes.annotations import ListedImage
from vision_train.data.boxes.coco import read_coco
from vision_train.data.boxes.layout import named
from vision_train.data.boxes.voc import read_voc
from vision_train.data.boxes.yolo import read_yolo
from vision_train.data.corners import Corners
from vision_train.data.findings import Findings
from vision_train.errors import UserError
from vision_train.wording import count_of, percent

FEWEST = 2
"""Boxes of an image that can be compared."""
BINS = 10


@dataclass(frozen=True)
class Correlation:
    """The metric of each image that has one.

    Attributes:
        measured: Of the images as they are.
        shuffled: Of images with as many boxes, drawn from all images.
        constant: Images left out, as a box of theirs has four equal numbers, which correlate with nothing.
        single: Images left out, as they have fewer than two boxes.
    """

    measured: NDArray[np.float64]
    shuffled: NDArray[np.float64]
    constant: int
    single: int


def mean_correlation(boxes: NDArray[np.float64]) -> float:
    """Mean absolute correlation of the pairs of boxes (n 4) of an image.

    Not a number where a box is constant, or where there is no pair.
    """
    count = len(boxes)
    centred = boxes - boxes.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1)
    if count < FEWEST or (lengths == 0).any():
        return float("nan")
    units = centred / lengths[:, None]
    return float((np.abs(units @ units.T).sum() - count) / (count * (count - 1)))


def correlation(path: Path, seed: int = 0) -> Correlation:
    """Measure the boxes of a file of annotations, those of crowds included; the images are not read.

    Raises:
        UserError: The file cannot be read, or no image has two boxes.
    """
    images = [[_sides(box.corners) for box in image.boxes] for image in _listed(path)]
    several = [np.array(boxes) for boxes in images if len(boxes) >= FEWEST]
    if not several:
        raise UserError(f"{path}: no image has {FEWEST} boxes to compare; name other annotations")
    measured = _of_all(several)
    pool = np.random.default_rng(seed).permutation(np.concatenate(several))
    exchanged = np.split(pool, np.cumsum([len(boxes) for boxes in several])[:-1])
    left_out = int(np.isnan(measured).sum())
    shuffled = _of_all(exchanged)
    return Correlation(
        measured[~np.isnan(measured)], shuffled[~np.isnan(shuffled)], left_out, len(images) - len(several)
    )


def shown(found: Correlation) -> list[str]:
    """What was measured, as lines of text."""
    counts = [np.histogram(values, BINS, (0, 1))[0] for values in (found.measured, found.shuffled)]
    shares = [each / max(each.sum(), 1) for each in counts]
    lines = [
        f"MC of {count_of(len(found.measured), 'images')}: {_mean(found.measured)}",
        f"the same boxes exchanged among images: {_mean(found.shuffled)}",
    ]
    if found.single or found.constant:
        single = count_of(found.single, "images")
        lines.append(f"left out: {single} of fewer than two boxes, {found.constant:,} with a constant box")
    lines.append("MC          images  exchanged")
    for number, (own, other) in enumerate(zip(*shares, strict=True)):
        lines.append(f"{number / BINS:.1f} - {(number + 1) / BINS:.1f}  {percent(own, 1):>7}    {percent(other, 1):>7}")
    return lines


def _mean(values: NDArray[np.float64]) -> str:
    return f"{values.mean():.3f} (median {np.median(values):.3f})" if len(values) else "not measured"


def _listed(path: Path) -> list[ListedImage]:
    source = named(path, "annotations")
    findings = Findings()
    if source.format == "yolo":
        return read_yolo(source.path, None, {}, findings).images
    reader = read_coco if source.format == "coco" else read_voc
    return reader(source.path, None, findings).images


def _sides(corners: Corners) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners
    return x1, y1, x2 - x1, y2 - y1


def _of_all(images: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([mean_correlation(boxes) for boxes in images])
