"""What a detector says of an image."""

import numpy as np
import pytest
import torch

from models.detr.postprocess import Detections
from vision_train.errors import UserError
from vision_train.tasks.detection.predictions import image_detections, predicted_boxes

CLASSES = ("cat", "dog")
FOUND = (np.array([0.9, 0.6, 0.4]), np.array([1, 0, 1]), np.array([[1.0, 2, 3, 4], [0, 0, 9, 9], [5, 5, 6, 7]]))


def test_each_class_has_its_threshold_and_results_have_none():
    predicted = predicted_boxes("a.png", FOUND, np.array([0.7, 0.3]), CLASSES, [5, 90])
    assert predicted.row == {
        "boxes": [
            {"label": "dog", "category_id": 90, "score": 0.9, "box": [1, 2, 3, 4]},
            {"label": "dog", "category_id": 90, "score": 0.4, "box": [5, 5, 6, 7]},
        ]
    }
    assert predicted.cells.rows[1] == ("dog", 90, 0.4, 0.3, 5, 5, 6, 7)
    assert predicted.drawing.scores.tolist() == [0.9, 0.4]
    assert predicted.results.scores.tolist() == [0.9, 0.6, 0.4]


def test_an_image_is_taken_out_of_a_batch():
    batch = Detections(torch.rand(2, 3), torch.randint(2, (2, 3)), torch.rand(2, 3, 4))
    scores, labels, corners = image_detections(batch, 1)
    assert scores.tolist() == batch.scores[1].double().tolist()
    assert labels.tolist() == batch.labels[1].tolist()
    assert corners.tolist() == batch.boxes[1].double().tolist()


@pytest.mark.parametrize("part", [0, 2])
def test_numbers_that_are_not_finite_are_refused(part):
    spoilt = [each.copy() for each in FOUND]
    spoilt[part][0] = np.nan
    with pytest.raises(UserError, match=r"a\.png: .*trainer\.precision"):
        predicted_boxes("a.png", tuple(spoilt), np.array([0.7, 0.3]), CLASSES, [5, 90])
