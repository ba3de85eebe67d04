"""Which lines of metrics.jsonl become which curves."""

from vision_train.artefacts import Metric
from vision_train.report.learning_curves import OBJECTIVE, by_phase, curve_charts, curves, together


def test_one_chart_a_metric_one_line_a_split():
    records = [
        {"phase": "fit", "epoch": 0, "step": 2, "time": 1, "train/loss": 3.0, "lr": 0.1, "lr/head": 0.2},
        {"phase": "fit", "epoch": 0, "step": 4, "time": 2, "val/loss": 2.0, "val/box_ap": 0.1, "text": "left out"},
        {"phase": "fit", "epoch": 1, "step": 8, "time": 3, "val/loss": 1.0, "train/data_wait": 0.5},
    ]
    found = curves(records)
    assert list(found) == ["loss", "box_ap", "lr", "data_wait"]
    assert [(line.name, line.x, line.y) for line in found["loss"]] == [("train", [0.5], [3.0]), ("val", [1, 2], [2, 1])]
    assert {line.name for line in found["lr"]} == {"learning rate", "head"}


def test_epochs_stand_in_for_steps():
    (line,) = curves([{"epoch": 0, "val/loss": 1.0}, {"epoch": 1, "val/loss": 2.0}])["loss"]
    assert line.x == [1, 2]


def test_phases_keep_their_order():
    assert list(by_phase([{"phase": "pretrain"}, {"phase": "fit"}, {"phase": "fit"}])) == ["pretrain", "fit"]


def test_the_metrics_that_come_first_follow_the_loss():
    line = {"epoch": 0, "step": 1, "val/a": 1.0, "val/b": 1.0, "val/c": 1.0, "val/loss": 1.0, "lr": 1.0}
    assert list(curves([line], ["c", "b"])) == ["loss", "c", "b", "a", "lr"]


def test_a_sum_of_losses_never_stands_beside_a_loss_that_is_something_else():
    records = [
        {"epoch": e, "step": e + 1, "train/loss": 3.0, "train/bag_loss": 1.0, "val/loss": 1.1, "val/auroc": 0.9}
        for e in range(3)
    ]
    described = {"loss": Metric("loss", "bag loss", in_training="bag_loss"), "auroc": Metric("auroc", "AUROC")}
    found = together(curves(records, [*described]), described)
    assert list(found) == ["loss", f"loss{OBJECTIVE}", "auroc"]
    assert [(line.name, line.y[0]) for line in found["loss"]] == [("train", 1.0), ("val", 1.1)]
    assert [(line.name, line.y[0]) for line in found[f"loss{OBJECTIVE}"]] == [("train", 3.0)]
    assert list(together(curves(records), {})) == list(curves(records)), "nothing says that they belong together"


def test_a_single_point_is_no_curve():
    records = [{"epoch": 0, "step": 1, "train/loss": 3.0, "val/loss": 1.0}, {"epoch": 0, "step": 2, "train/loss": 2.0}]
    charts = curve_charts([*records, {"epoch": 0, "step": 2, "val/auroc": 0.5}], "auroc", {})
    assert len(charts) == 1
    assert "Loss" in charts[0]
