"""What a task hands over after a test pass."""

import numpy as np
import pytest
import torch

from models.detr.relation_bias import RelationBias
from vision_train.artefacts import BoxPictures, Table
from vision_train.recipe import load_recipe
from vision_train.tasks.detection.task import DetectionTask, build


@pytest.fixture
def make_task():
    def make(*overrides: str) -> DetectionTask:
        task = build(load_recipe("relation_detr/shapes", list(overrides), smoke=True), ["a", "b"])
        task.begin_gallery()
        return task

    return make


def concluded(task, results):
    return {artefact.name: artefact for artefact in task.conclude(results, "test", {})}


def test_the_relation_is_shown_head_by_head_if_there_is_one(make_task, make_result):
    results = {"a": make_result([(0.9, 0, 0, 10)], [(0, 0, 10)])}
    relation = concluded(make_task(), results)["test_relation"]
    assert isinstance(relation, RelationBias)
    assert np.shape(relation.heads) == (2, len(relation.size_ratios), len(relation.distances))
    assert "test_relation" not in concluded(make_task("model.args.relation=false"), results)


def test_pictures_have_no_padding_and_the_levels_of_the_image(make_task, make_result):
    task = make_task()
    image, padding = torch.zeros(2, 3, 32, 64), torch.zeros(2, 32, 64, dtype=torch.bool)
    padding[1, 20:], padding[1, :, 30:] = True, True
    image[1, :, :20, :30] = 2.0
    batch = {"id": ["a", "b"], "image": image, "padding_mask": padding, "affine": torch.eye(3).repeat(2, 1, 1)}
    results = [make_result(truth=[(0, 0, 10)]), make_result(truth=[(0, 0, 10), (1, 0, 10)])]
    task.consider(batch, results)
    pictures = concluded(task, dict(zip("ab", results, strict=True)))["test_mistakes"]
    assert isinstance(pictures, BoxPictures)
    assert [picture.pixels.shape for picture in pictures.pictures] == [(20, 30, 3), (32, 64, 3)]
    mean, std = task.recipe.augment.preprocessing.mean, task.recipe.augment.preprocessing.std
    expected = [round(255 * min(2 * deviation + middle, 1)) for middle, deviation in zip(mean, std, strict=True)]
    assert pictures.pictures[0].pixels[0, 0].tolist() == expected


def test_detections_count_by_the_thresholds_that_validation_chose(make_task, make_result):
    found = {"a": make_result([(0.4, 0, 0, 10), (0.3, 1, 0, 10)], [(0, 0, 10)])}
    task = make_task()
    task.calibration = task.calibrate(found)
    counted = concluded(task, found)["test_detections"]
    assert isinstance(counted, Table)
    assert [row[2] for row in counted.rows] == [1, 0]
    assert "validation" in counted_by(task, found)
    assert "method.threshold" in counted_by(make_task("method.threshold=0.35"), found)


def counted_by(task, found) -> str:
    return concluded(task, found)["test_summary"].note


def test_what_cannot_be_measured_is_a_warning(make_task, make_result):
    task = make_task()
    concluded(task, {"a": make_result([(0.4, 0, 0, 10)])})
    assert "no object" in task.warnings[0]
    assert not task.guesses
    concluded(task, {"a": make_result(truth=[(0, 0, 10)])})
    assert "nothing was found" in task.warnings[0]
    assert task.guesses


def test_a_detector_that_does_not_see_the_image_guesses(make_task, make_result):
    def images(found):
        return {
            str(at): make_result([(0.4, 0, found(at), found(at) + 10)], [(0, at, at + 10)]) for at in range(0, 90, 10)
        }

    task = make_task()
    concluded(task, images(lambda at: at))
    assert (task.warnings, task.guesses) == ([], False)
    said = concluded(task, images(lambda at: 40))["test_summary"].note
    assert task.guesses
    assert f"Warning: {task.warnings[0]}." in said
