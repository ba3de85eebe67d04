"""Each statistic against an independent reference, on items repeated as often as they were drawn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error

from vision_train.statistics import registered_statistic, statistic

RESAMPLES = 12


def counts_of(items: int, seed: int = 0) -> np.ndarray:
    """R x N: the items as they are, then resamples."""
    generator = np.random.default_rng(seed)
    draws = [np.bincount(generator.integers(items, size=items), minlength=items) for _ in range(RESAMPLES)]
    return np.array([np.ones(items), *draws])


def computed(name: str, columns: dict, counts: np.ndarray) -> np.ndarray:
    return registered_statistic(name)(columns, counts)


def repeated(values: list | np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values), row.astype(int), axis=0)


def classified(items: int, classes: int, steps: int | None = None) -> dict[str, list]:
    """Labels, of which the first classes are rarer, and probabilities that know something of them."""
    generator = np.random.default_rng(1)
    labels = generator.choice(classes, items, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    probabilities = np.exp(generator.normal(size=(items, classes)) + np.eye(classes)[labels])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if steps:
        probabilities = np.round(steps * probabilities) / steps
    predicted = probabilities.argmax(axis=1)
    return {"label": labels.tolist(), "probabilities": probabilities.tolist(), "predicted": predicted.tolist()}


def test_mean_and_ratio_of_sums():
    values, weights, counts = np.arange(30.0), np.arange(30) % 4, counts_of(30)
    expected = [repeated(values, row).mean() for row in counts]
    assert computed("mean", {"value": values.tolist()}, counts) == pytest.approx(expected)
    expected = [repeated(values, row).sum() / repeated(weights, row).sum() for row in counts]
    columns = {"numerator": values.tolist(), "denominator": weights.tolist()}
    assert computed("ratio_of_sums", columns, counts) == pytest.approx(expected)
    assert np.isnan(computed("ratio_of_sums", {"numerator": [1.0], "denominator": [0.0]}, np.ones((1, 1))))


@pytest.mark.parametrize("steps", [None, 5], ids=["distinct", "ties"])
@pytest.mark.parametrize("classes", [2, 3])
def test_macro_auroc_is_sklearns(classes, steps):
    columns, counts = classified(60, classes, steps), counts_of(60)
    expected = []
    for row in counts:
        labels, scores = repeated(columns["label"], row), repeated(columns["probabilities"], row)
        expected.append(np.mean([roc_auc_score(labels == each, scores[:, each]) for each in np.unique(labels)]))
    assert computed("macro_auroc", columns, counts) == pytest.approx(expected, abs=1e-12)


def test_classes_that_are_not_drawn_are_left_out_of_auroc():
    columns = {
        "label": [0, 1, 0, 1, 2],
        "probabilities": [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.65, 0.25, 0.1], [0.0, 0.0, 1.0]],
    }
    found = computed("macro_auroc", columns, np.array([[1.0, 1, 1, 1, 0], [2.0, 0, 1, 0, 0]]))
    assert found[0] == pytest.approx(0.75)
    assert math.isnan(found[1]), "a single class has no AUROC"


def test_macro_f1_is_sklearns():
    columns, counts = classified(50, 4), counts_of(50)
    pairs = [(repeated(columns["label"], row), repeated(columns["predicted"], row)) for row in counts]
    expected = [f1_score(labels, predicted, average="macro") for labels, predicted in pairs]
    assert computed("macro_f1", columns, counts) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_is_torchmetrics():
    generator = np.random.default_rng(2)
    confidence = np.concatenate([generator.uniform(0.2, 1, 60), [1.0, 1.0, 0.2, 0.6, 0.0]])
    correct, counts = (generator.random(65) < confidence**2).astype(float), counts_of(65)
    expected = [
        binary_calibration_error(
            torch.tensor(repeated(confidence, row)), torch.tensor(repeated(correct, row)).long(), n_bins=15
        ).item()
        for row in counts
    ]
    columns = {"confidence": confidence.tolist(), "correct": correct.tolist()}
    assert computed("calibration_error", columns, counts) == pytest.approx(expected, abs=1e-6)


def detections(images: int, classes: int, thresholds: int) -> dict[str, list]:
    generator = np.random.default_rng(3)
    columns: dict[str, list] = {"score": [], "hit": [], "class_id": [], "truths": []}
    for _ in range(images):
        found = generator.integers(0, 5)
        columns["score"].append(generator.random(found).tolist())
        hits = generator.random((found, 1)) < np.linspace(0.7, 0.3, thresholds)
        columns["hit"].append(hits.astype(float).tolist())
        columns["class_id"].append(generator.integers(classes, size=found).tolist())
        columns["truths"].append(generator.integers(1, 4, classes).tolist())
    return columns


def average_precision_by_loop(columns: dict, row: np.ndarray, class_id: int, threshold: int) -> float:
    """Walk down the detections of all images that are drawn; then read the best precision at each recall or beyond."""
    found, truths = [], 0
    for image, times in enumerate(row.astype(int)):
        truths += times * columns["truths"][image][class_id]
        for score, hit, of_class in zip(*(columns[name][image] for name in ("score", "hit", "class_id")), strict=True):
            if of_class == class_id:
                found += [(score, hit[threshold])] * times
    found.sort(key=lambda detection: -detection[0])
    points, hits = [], 0.0
    for claimed, (_, hit) in enumerate(found, 1):
        hits += hit
        points.append((hits / truths, hits / claimed))
    read = [
        max((precision for recall, precision in points if recall >= wanted), default=0.0)
        for wanted in np.linspace(0, 1, 101)
    ]
    return sum(read) / 101


@pytest.mark.parametrize(("classes", "thresholds"), [(1, 1), (3, 1), (2, 3)])
def test_average_precision_is_that_of_a_loop(classes, thresholds):
    columns, counts = detections(25, classes, thresholds), counts_of(25)
    expected = [
        np.mean([average_precision_by_loop(columns, row, c, t) for c in range(classes) for t in range(thresholds)])
        for row in counts
    ]
    assert computed("average_precision", columns, counts) == pytest.approx(expected, abs=1e-12)


def test_average_precision_without_classes_detections_or_truths():
    columns = {"score": [[0.9, 0.1], [], [0.5]], "hit": [[1, 0], [], [1]], "truths": [1, 1, 1]}
    found = computed("average_precision", columns, np.array([[1.0, 1, 1], [0.0, 3, 0], [3.0, 0, 0]]))
    assert found == pytest.approx([67 / 101, 0, 1])  # two of three found, and at the 67 recalls up to 2/3 without fault
    nothing = {"score": [[0.9]], "hit": [[0]], "truths": [0]}
    assert math.isnan(computed("average_precision", nothing, np.ones((1, 1)))[0])
    assert computed("average_precision", {"score": [[]], "hit": [[]], "truths": [2]}, np.ones((1, 1)))[0] == 0


def test_a_detection_that_does_not_count_is_no_false_alarm():
    columns = {"score": [[0.9, 0.8]], "hit": [[[0, 0], [1, 1]]], "counted": [[[0, 1], [1, 1]]], "truths": [1]}
    assert computed("average_precision", columns, np.ones((1, 1)))[0] == pytest.approx((1 + 0.5) / 2)
    assert computed("average_precision", columns | {"counted": [[[1, 1], [1, 1]]]}, np.ones((1, 1)))[0] == 0.5


def test_a_class_without_truths_is_left_out_of_average_precision():
    columns = {"score": [[0.9, 0.8]], "hit": [[1, 0]], "class_id": [[0, 1]], "truths": [[1, 0]]}
    assert computed("average_precision", columns, np.ones((1, 1)))[0] == 1


def test_a_name_belongs_to_one_function():
    with pytest.raises(ValueError, match="macro_f1"):
        statistic("macro_f1")(lambda columns, counts: counts.sum(axis=1))
    with pytest.raises(ValueError, match="no statistic is called somewhere"):
        registered_statistic("somewhere.else")
