"""What was found in each image of a pass, and what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.detr.postprocess import Detections
from vision_train.processes import gather_objects

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class ImageResult:
    """Detections and truth of one image; boxes are left, top, right, bottom in pixels of the original."""

    scores: Numbers
    """D, falling."""
    labels: NDArray[np.int64]
    """D."""
    boxes: Numbers
    """D x 4."""
    true_labels: NDArray[np.int64]
    """n."""
    true_boxes: Numbers
    """n x 4."""
    ignored: Numbers
    """m x 4: regions that neither count nor punish."""
    true_areas: Numbers | None = None
    """n, of the objects in pixels; None where they are those of the boxes."""
    crowds: NDArray[np.int64] | None = None
    """m, the class that an ignored region is a crowd of, -1 for every class; None where all are of every class."""
    size: tuple[int, int] = (1, 1)
    """Height and width of the image, or the same for all images where they are as large as one another."""

    @property
    def object_areas(self) -> Numbers:
        """Area of each object, in pixels."""
        return areas(self.true_boxes) if self.true_areas is None else self.true_areas

    @property
    def ignored_classes(self) -> NDArray[np.int64]:
        """The class that each ignored region is a crowd of, -1 for every class."""
        return np.full(len(self.ignored), -1) if self.crowds is None else self.crowds


def areas(boxes: Numbers) -> Numbers:
    """Area of each box, n."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return sides[:, 0] * sides[:, 1]


Results = dict[str, ImageResult]
"""Id of an image -> its result, in the order of the ids."""


class ResultTable:
    """Collects the results of a pass in each process."""

    def __init__(self) -> None:
        self._results: Results = {}

    def add(self, ids: Sequence[str], results: Sequence[ImageResult]) -> None:
        """Note a batch."""
        self._results |= dict(zip(ids, results, strict=True))

    def gather(self) -> Results:
        """The results of all processes, the same on each. A collective call."""
        everyone = {name: result for part in gather_objects(self._results) for name, result in part.items()}
        return {name: everyone[name] for name in sorted(everyone)}


def image_result(batch: dict[str, Any], found: Detections, place: int) -> ImageResult:
    """What was found in one image of a batch, and what is there, in pixels of the original."""

    def array(values: Tensor, kind: Any) -> Any:
        return values.detach().cpu().numpy().astype(kind)

    height, width = batch["size"][place]
    size = torch.tensor([width, height, width, height], dtype=torch.float64)

    def in_pixels(boxes: Tensor) -> Any:
        boxes = boxes.detach().cpu().double()
        corners = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), dim=1)
        return (corners * size).numpy()

    return ImageResult(
        array(found.scores[place], np.float64),
        array(found.labels[place], np.int64),
        array(found.boxes[place], np.float64),
        array(batch["class_ids"][place], np.int64),
        in_pixels(batch["boxes"][place]),
        in_pixels(batch["ignore"][place]),
        array(batch["areas"][place], np.float64),
        array(batch["ignore_ids"][place], np.int64),
        (height, width),
    )
