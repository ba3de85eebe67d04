"""Studies of detectors: average precision of resampled images ends in a verdict."""

import numpy as np
import pytest

from vision_train.artefacts import write_artefact
from vision_train.report.measured_samples import common_samples
from vision_train.study.judgement import Pair, compare_pair
from vision_train.study.runs import Run
from vision_train.tasks.detection.exhibits import items
from vision_train.tasks.detection.precision import measure
from vision_train.tasks.detection.results import ImageResult, Results

CLASSES = ["a", "b", "c"]
IMAGES, SEEDS = 40, 3


def detected(off: float, seed: int) -> Results:
    """Results on the same images: each object is found, so many pixels off, and there are some false alarms."""
    found: Results = {}
    for image in range(IMAGES):
        scene, random = np.random.default_rng(image), np.random.default_rng((seed, image))
        count = int(scene.integers(1, 6))
        corner, sides = scene.uniform(0, 200, (count, 2)), scene.uniform(30, 80, (count, 2))
        truth, labels = np.concatenate((corner, corner + sides), axis=1), scene.integers(0, 3, count)
        near = truth + random.normal(0, off, truth.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        boxes = np.concatenate((near, random.uniform(1, 90, (2, 4)).cumsum(axis=1)))
        scores = -np.sort(-random.uniform(0, 1, count + 2))
        guessed = np.concatenate((labels, random.integers(0, 3, 2)))
        found[f"image {image:03d}"] = ImageResult(scores, guessed, boxes, labels, truth, np.zeros((0, 4)))
    return found


@pytest.mark.parametrize(
    ("metric", "first_off", "second_off", "verdict"),
    [
        ("ap", 12.0, 3.0, "better"),
        ("ap50", 3.0, 12.0, "worse"),
        ("ap", 6.0, 6.0, "no measurable difference"),
    ],
)
def test_detectors_of_clearly_different_quality_are_told_apart(tmp_path, metric, first_off, second_off, verdict):
    arms: list[dict[int, Run]] = []
    values: list[dict[int, float]] = []
    for arm, off in enumerate((first_off, second_off)):
        results = {seed: detected(off, SEEDS * arm + seed) for seed in range(SEEDS)}
        values.append({seed: measure(each, CLASSES)[metric] for seed, each in results.items()})
        folders = {seed: tmp_path / f"{arm} {seed}" for seed in results}
        for seed, each in results.items():
            write_artefact(folders[seed] / "artefacts", items(each, CLASSES, "test"))
        log = tmp_path / "log.txt"
        arms.append(
            {seed: Run(f"{arm}", tmp_path, seed, each, log, f"test/{metric}") for seed, each in folders.items()}
        )
    first, second = arms
    common = common_samples([*first.values(), *second.values()], f"test/{metric}")
    assert common is not None
    resampled = common.difference(second, first, list(range(SEEDS)))
    assert resampled.observed == pytest.approx(np.mean([values[1][seed] - values[0][seed] for seed in range(SEEDS)]))
    found = compare_pair(Pair("second", "first", values[1], values[0], IMAGES, resampled), "max")
    assert found.item_interval is not None
    assert found.verdict == verdict
