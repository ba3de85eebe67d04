"""Intervals of the figures of a run: Wilson's where items stand alone, the bootstrap over groups elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from vision_train.artefacts import Items, Metric, Recomputed
from vision_train.report.figure_intervals import figure_intervals
from vision_train.report.headline import headline_tiles
from vision_train.report.record import RunRecord
from vision_train.statistics import wilson_interval

METRICS = (
    Metric("accuracy", "accuracy", "percent", is_proportion=True),
    Metric("auroc", "AUROC", is_share=True),
    Metric("loss", "loss", better="less", lowest=0.0),
    Metric("probe", "accuracy of other items", "percent", is_proportion=True),
)


def record(items: Items, **figures: float) -> RunRecord:
    summary = {f"test/{name}": value for name, value in figures.items()}
    return RunRecord(Path(), summary=summary, artefacts=[items], described={each.name: each for each in METRICS})


def items(count: int = 100, groups=None, hits: float = 0.9) -> Items:
    noise = np.random.default_rng(0)
    labels = np.arange(count) % 2
    scores = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.2 * noise.normal(size=count), 0, 1)
    right = (np.arange(count) < hits * count).astype(float)
    return Items(
        "test_items",
        [str(index) for index in range(count)],
        {"accuracy": right.tolist(), "loss": noise.random(count).tolist()},
        groups,
        {"label": labels.tolist(), "probabilities": np.stack([1 - scores, scores], axis=1).tolist()},
        {"auroc": Recomputed("macro_auroc"), "odd": Recomputed("of_no_installed_task")},
    )


def test_a_share_of_single_items_has_wilsons_interval():
    assert figure_intervals(record(items(), accuracy=0.9)) == {"test/accuracy": wilson_interval(0.9, 100)}


def test_items_of_one_group_are_drawn_together():
    groups = [str(index // 10) for index in range(100)]
    alone, together = (
        figure_intervals(record(items(groups=each), accuracy=0.9))["test/accuracy"] for each in (None, groups)
    )
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert together.high <= 1


def test_metrics_that_are_no_share_of_items_have_intervals_too():
    from sklearn.metrics import roc_auc_score

    found = items()
    auroc = roc_auc_score(found.columns["label"], np.array(found.columns["probabilities"])[:, 1])
    loss = float(np.mean(found.values["loss"]))
    intervals = figure_intervals(record(found, auroc=auroc, loss=loss))
    assert 0 < intervals["test/auroc"].low < auroc < intervals["test/auroc"].high < 1
    assert intervals["test/loss"].low < loss < intervals["test/loss"].high


def test_what_cannot_be_below_0_has_an_interval_that_is_not_either():
    losses = [0.0] * 8 + [3.0, 5.0]
    found = Items("test_items", [str(index) for index in range(10)], {"loss": losses, "gain": losses})
    intervals = figure_intervals(record(found, loss=0.8, gain=0.8))
    assert intervals["test/gain"].low < 0 < intervals["test/loss"].low < 0.8 < intervals["test/loss"].high
    low, high = intervals["test/loss"]
    assert low * high == pytest.approx(0.8**2), "symmetric on the log scale"


@pytest.mark.parametrize("hits", [0.0, 1.0])
def test_groups_that_are_all_right_or_all_wrong_have_the_interval_of_so_many_items(hits):
    groups = [str(index // 10) for index in range(100)]
    assert figure_intervals(record(items(groups=groups, hits=hits), accuracy=hits)) == {
        "test/accuracy": wilson_interval(hits, 10)
    }


@pytest.mark.parametrize(
    "figures", [{"auroc": 0.123}, {"odd": 0.5}, {"accuracy": float("nan")}, {"samples": 100}, {"probe": 0.5}]
)
def test_figures_that_the_items_do_not_say_have_none(figures):
    assert figure_intervals(record(items(), **figures)) == {}


def test_a_figure_at_its_end_says_why_it_has_no_interval():
    found = items()
    found.columns["probabilities"] = [[1.0 - label, float(label)] for label in found.columns["label"]]
    perfect = record(found, auroc=1.0)
    (tile,) = headline_tiles(perfect, figure_intervals(perfect))
    assert "no interval" in tile.note


def test_a_headline_of_too_few_items_says_that_it_has_no_interval():
    found = Items("test_items", ["0", "1", "2", "3"], recomputed=items().recomputed)
    found.columns["probabilities"] = [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]]
    found.columns["label"] = [0, 1, 0, 1]
    few = record(found, auroc=0.75)
    assert figure_intervals(few) == {"test/auroc": None}
    assert "no interval" in headline_tiles(few, figure_intervals(few))[0].note
