"""The MC metric beside boxes that were exchanged among images."""

import json
from pathlib import Path

import numpy as np
import pytest

from vision_train.data.boxes.correlation import correlation, mean_correlation, shown
from vision_train.errors import UserError

GOLDEN = Path(__file__).parents[2] / "golden" / "relation_detr" / "f_misc.json"
CASES = json.loads(GOLDEN.read_text())["values"]["mc"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(len(case["xywh"])))
def test_the_metric_equals_the_official_script(case):
    assert mean_correlation(np.array(case["xywh"])) == pytest.approx(case["mc"], abs=1e-6)


@pytest.mark.parametrize(
    "boxes", [np.zeros((0, 4)), np.array([[1.0, 2, 3, 4]]), np.array([[1.0, 2, 3, 4], [5, 5, 5, 5]])]
)
def test_no_pair_or_a_constant_box_has_no_correlation(boxes):
    assert np.isnan(mean_correlation(boxes))


def test_boxes_that_resemble_one_another_in_an_image_stand_out(place):
    shapes = np.random.default_rng(0).uniform(5, 60, (30, 4))
    boxes = [{"bbox": [*shape], "image_id": number} for number, shape in enumerate(shapes, 1) for _ in range(3)]
    path = place.coco(*boxes, {"bbox": [1, 1, 9, 9], "image_id": 32}, images=[f"{number}.png" for number in range(33)])
    found = correlation(path)
    assert found.measured == pytest.approx(np.ones(30))
    assert 0.3 < found.shuffled.mean() < 0.8
    assert (found.single, found.constant) == (3, 0)
    assert "MC of 30 images: 1.000" in shown(found)[0]


def test_an_image_with_a_constant_box_is_left_out(place):
    constant = [{"bbox": [5, 5, 5, 5]}, {"bbox": [1, 2, 3, 4]}]
    others = [{"bbox": [1, 2, 3, 4], "image_id": 2}, {"bbox": [4, 1, 3, 9], "image_id": 2}]
    found = correlation(place.coco(*constant, *others))
    assert (len(found.measured), found.constant) == (1, 1)


def test_nothing_to_compare_is_refused(place):
    with pytest.raises(UserError, match=r"boxes\.json"):
        correlation(place.coco({"bbox": [1, 2, 3, 4]}))
