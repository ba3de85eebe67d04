"""Results of images, made by hand or as the fixture of TIDE has them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vision_train.tasks.detection.results import ImageResult

TIDE = Path(__file__).parents[2] / "golden" / "tide" / "errors.json"


@pytest.fixture(scope="session")
def make_result() -> Callable[..., ImageResult]:
    """Makes a result of detections (score, class, left, right), objects (class, left, right) and ignored (left, right).

    All reach from top 0 to bottom 10.
    """

    def boxes(sides):
        return np.array([(left, 0, right, 10) for left, right in sides], dtype=np.float64).reshape(-1, 4)

    def make(found=(), truth=(), ignored=()) -> ImageResult:
        return ImageResult(
            np.array([row[0] for row in found], dtype=np.float64),
            np.array([row[1] for row in found], dtype=np.int64),
            boxes(row[2:] for row in found),
            np.array([row[0] for row in truth], dtype=np.int64),
            boxes(row[1:] for row in truth),
            boxes(ignored),
        )

    return make


@pytest.fixture(scope="session")
def tide():
    """What TIDE's own code says of some images."""
    return json.loads(TIDE.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def tide_results(tide):
    """These images."""

    def array(values, kind, *shape):
        return np.array(values, dtype=kind).reshape(shape)

    return {
        f"{number:02d}": ImageResult(
            array(image["scores"], np.float64, -1),
            array(image["labels"], np.int64, -1),
            array(image["boxes"], np.float64, -1, 4),
            array(image["true_labels"], np.int64, -1),
            array(image["true_boxes"], np.float64, -1, 4),
            array(image["ignored"], np.float64, -1, 4),
        )
        for number, image in enumerate(tide["images"])
    }
