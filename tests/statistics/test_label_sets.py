"""Metrics of items with several classes against scikit-learn, on items repeated as often as they were drawn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from vision_train.statistics import registered_statistic
from vision_train.statistics.label_sets import UNKNOWN

ITEMS, CLASSES = 60, 4


def columns(steps: int | None = None) -> dict[str, list]:
    """Probabilities that know something of the targets; the last class is rare, and some targets are unknown."""
    generator = np.random.default_rng(2)
    targets = (generator.random((ITEMS, CLASSES)) < [0.5, 0.3, 0.3, 0.1]).astype(int)
    probabilities = 1 / (1 + np.exp(-generator.normal(size=targets.shape) - 1.5 * targets + 1))
    if steps:
        probabilities = np.round(steps * probabilities) / steps
    targets[generator.random(targets.shape) < 0.1] = UNKNOWN
    claimed = (probabilities >= 0.5).astype(int)
    return {"targets": targets.tolist(), "probabilities": probabilities.tolist(), "claimed": claimed.tolist()}


def expected(reference, column: str, held: dict[str, list], row: np.ndarray, *, both: bool) -> float:
    drawn = np.repeat(np.arange(ITEMS), row.astype(int))
    targets, numbers = np.asarray(held["targets"])[drawn], np.asarray(held[column])[drawn]
    found = []
    for target, number in zip(targets.T, numbers.T, strict=True):
        known = target != UNKNOWN
        if (target[known] == 1).any() and not (both and (target[known] == 1).all()):
            found.append(reference(target[known], number[known]))
    return float(np.mean(found))


@pytest.mark.parametrize("steps", [None, 5], ids=["distinct", "ties"])
@pytest.mark.parametrize(
    ("name", "reference", "column"),
    [
        ("label_set_average_precision", average_precision_score, "probabilities"),
        ("label_set_auroc", roc_auc_score, "probabilities"),
        ("label_set_f1", f1_score, "claimed"),
    ],
)
def test_metrics_are_sklearns_in_every_resample(name, reference, column, steps):
    generator, held = np.random.default_rng(0), columns(steps)
    counts = np.array([np.ones(ITEMS), *(generator.multinomial(ITEMS, [1 / ITEMS] * ITEMS) for _ in range(10))])
    wanted = [expected(reference, column, held, row, both=name == "label_set_auroc") for row in counts]
    assert registered_statistic(name)(held, counts) == pytest.approx(wanted, abs=1e-12)


def test_a_class_that_nothing_bears_counts_in_no_mean():
    held = {"targets": [[1, 0], [0, 0]], "probabilities": [[0.9, 0.9], [0.1, 0.8]], "claimed": [[1, 1], [0, 1]]}
    for name in ("label_set_average_precision", "label_set_auroc", "label_set_f1"):
        assert registered_statistic(name)(held, np.ones((1, 2))) == [1.0]
