"""Experiment trackers get the lines of the log and the pictures of the report; nothing leaves the machine."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from vision_train.artefacts import BoxPicture, BoxPictures, Curve, ImageGrid, MarkedBox, Matrix, Table
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.report import boxes
from vision_train.report.pixels import pictures_of
from vision_train.run.directory import RunDirectory
from vision_train.run.fit import fit, resume
from vision_train.tasks.classification.task import ClassificationTask

TRACKED = ("trainer.max_epochs=3", "trainer.log_every_n_steps=1", "trainer.limit_test_batches=1")


@pytest.fixture(autouse=True)
def no_account(monkeypatch):
    """No account and no server; and what a tracker sets is taken back."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def tracked_and_cut_short(recipe: str, name: str, cut_short) -> tuple[Path, str]:
    """A run that one tracker follows, stopped in its second epoch and resumed, and what was said."""
    said = io.StringIO()
    with cut_short(ClassificationTask, 4):
        fit(
            load_recipe(recipe, [*TRACKED, f"run.trackers=[{name}]"]),
            run_dir=Path("run"),
            command=[],
            console=Console(file=said, width=1000),
        )
    return resume(Path("run"), console=Console(quiet=True)).path, said.getvalue()


def logged(run: Path, key: str) -> dict[int, float]:
    lines = read_metrics(run / "metrics.jsonl")
    return {line["step"]: line[key] for line in lines if key in line}


def test_tensorboard_shows_what_the_log_has(tiny, cut_short):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, said = tracked_and_cut_short(tiny, "tensorboard", cut_short)
    assert "tensorboard --logdir run/trackers/tensorboard" in said
    events = EventAccumulator(str(run / "trackers" / "tensorboard" / "fit"), size_guidance={"images": 0})
    events.Reload()
    for key in ("val/accuracy", "train/loss", "lr"):
        shown = {event.step: event.value for event in events.Scalars(key)}
        assert shown == pytest.approx(logged(run, key)), key
        assert len(events.Scalars(key)) == len(shown), "steps that were repeated are shown once"
    assert any(tag.startswith("test_confusion") for tag in events.Tags()["images"])
    assert any(tag.startswith("test_mistakes") for tag in events.Tags()["images"])


def test_mlflow_keeps_a_run_below_the_run_directory(tiny, cut_short):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    run, said = tracked_and_cut_short(tiny, "mlflow", cut_short)
    assert "mlflow ui --backend-store-uri sqlite:///run/trackers/mlflow/mlflow.db" in said
    client = MlflowClient(f"sqlite:///{run / 'trackers' / 'mlflow' / 'mlflow.db'}")
    known = json.loads((run / "trackers" / "runs.json").read_text())["mlflow"]
    found = client.get_run(known)
    assert found.info.status == "FINISHED"
    summary = json.loads((run / "summary.json").read_text())
    assert found.data.metrics["test/accuracy"] == pytest.approx(summary["test/accuracy"])
    assert found.data.params["optim.lr"] == "0.002"
    history = {each.step: each.value for each in client.get_metric_history(known, "val/accuracy")}
    assert history == pytest.approx(logged(run, "val/accuracy"))
    files = [file.path for folder in client.list_artifacts(known) for file in client.list_artifacts(known, folder.path)]
    assert any(file.startswith("test_confusion") for file in files)
    assert not Path("mlruns").exists()
    assert not Path("mlflow.db").exists()


def test_wandb_stays_offline(tiny):
    pytest.importorskip("wandb")
    said = io.StringIO()
    overrides = ["trainer.max_epochs=1", "trainer.limit_test_batches=1", "run.trackers=[wandb]"]
    run = fit(
        load_recipe(tiny, overrides), run_dir=Path("run"), command=[], console=Console(file=said, width=1000)
    ).path
    assert "not sent; send it with: wandb sync run/trackers/wandb/offline-run-*" in said.getvalue()
    (folder,) = (run / "trackers" / "wandb").glob("offline-run-*")
    assert folder.name.endswith(json.loads((run / "trackers" / "runs.json").read_text())["wandb"])
    (written,) = folder.glob("*.wandb")
    content = written.read_bytes()
    for name in (b"val/accuracy", b"train/loss", b"test/accuracy", b"test_mistakes", b"optim.lr"):
        assert name in content
    assert list(folder.rglob("*.png"))
    assert "WANDB_MODE" not in os.environ


@pytest.mark.parametrize(
    ("tracker", "variable", "value", "says"),
    [
        ("mlflow", "MLFLOW_TRACKING_URI", "sqlite:////elsewhere", "sent to sqlite:////elsewhere (MLFLOW_TRACKING_URI)"),
        ("wandb", "WANDB_MODE", "disabled", "not sent"),
    ],
)
def test_the_environment_decides_where_it_goes(tracker, variable, value, says, tiny, monkeypatch, tmp_path):
    pytest.importorskip(tracker)
    from vision_train.run.trackers import KINDS

    monkeypatch.setenv(variable, value.replace("/elsewhere", f"{tmp_path}/elsewhere"))
    monkeypatch.setattr("pytorch_lightning.loggers.MLFlowLogger.log_hyperparams", lambda *_: None)
    monkeypatch.setattr("pytorch_lightning.loggers.MLFlowLogger.run_id", "known")
    made = KINDS[tracker](RunDirectory(tmp_path / "run"), load_recipe(tiny), None)
    assert says.replace("/elsewhere", f"{tmp_path}/elsewhere") in made.place


def test_a_tracker_that_fails_costs_nothing_but_itself(tiny, monkeypatch):
    pytest.importorskip("tensorboard")
    from vision_train.run.trackers import TensorBoard

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(TensorBoard, "metrics", full)
    overrides = ["trainer.max_epochs=1", "trainer.limit_test_batches=1", "run.trackers=[tensorboard]"]
    run = fit(load_recipe(tiny, overrides), run_dir=Path("run"), command=[], console=Console(quiet=True)).path
    assert (run / "summary.json").exists()
    assert (run / "log.txt").read_text().count("tensorboard fails and gets nothing from here on: no space left") == 1


def test_pictures_are_grids_curves_and_matrices():
    pixels = [np.zeros((4, 6, 3), dtype=np.uint8)] * 2
    grid = pictures_of(ImageGrid("grid", "Grid", pixels, ["one"]))
    assert [caption for caption, _ in grid] == ["one", "Grid"]
    curve = Curve("curve", "Curve", "x", "y", [0, 1], {"a": [0.0, float("nan")], "b": [1.0, 0.5]})
    matrix = Matrix("matrix", "Matrix", "truth", "said", ["a", "b"], ["a", "b"], [[1, 2], [3, 4]])
    for artefact in (curve, matrix):
        ((caption, drawn),) = pictures_of(artefact)
        assert caption == artefact.title
        assert drawn.dtype == "uint8"
        assert drawn.shape[2] == 3
        assert drawn.std() > 0
    assert pictures_of(Table("table", "Table", ["a"], [[1]])) == []


def test_pictures_with_boxes_are_drawn_by_the_kind_of_data_that_has_boxes():
    box = MarkedBox((2.0, 3.0, 12.0, 14.0), "cat", "found")
    picture = BoxPicture("a.png", "A", np.zeros((20, 30, 3), dtype=np.uint8), {"predicted": [box], "truth": []})
    content = BoxPictures("boxes", "Boxes", [picture], {"found": "right"})
    captions, drawn = zip(*pictures_of(content, boxes), strict=True)
    assert captions == ("a.png, predicted: 1", "a.png, truth: 0")
    assert drawn[0].any()
    assert not drawn[1].any()
    assert pictures_of(content) == []
