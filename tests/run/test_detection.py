"""Detection from end to end: training, evaluation, resumption, prediction."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit, resume
from vision_train.tasks.detection.task import DetectionTask, build

OVERRIDES = ["trainer.limit_train_batches=3", "trainer.max_epochs=2", "optim.ema={decay: 0.5}"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    recipe = load_recipe("relation_detr/shapes", OVERRIDES, smoke=True)
    place = tmp_path_factory.mktemp("detection") / "run"
    return fit(recipe, run_dir=place, command=[], console=Console(quiet=True)).path


def test_evaluation_repeats_the_result(run):
    summary = json.loads((run / "summary.json").read_text())
    measured = evaluate_run(run, "test")
    assert measured["test/ap50"] == pytest.approx(summary["test/ap50"], abs=1e-9)
    assert summary["train/steps"] == 6


def test_the_report_shows_classes_errors_pictures_and_the_relation(run):
    page = (run / "report.html").read_text()
    for word in ("circle", "square", "triangle", "Average precision of each class"):
        assert word in page
    for word in ("Errors on test", "wrong place", "with most errors", "objects found", "Head 1"):
        assert word in page
    for fault in ("Not shown", "Could not be read"):
        assert fault not in page


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(run, tmp_path, monkeypatch, quiet):
    original, calls = DetectionTask.training_step, iter(range(100))

    def training_step(self, batch, batch_idx):
        if next(calls) == 4:
            raise RuntimeError("cut short")
        return original(self, batch, batch_idx)

    recipe = load_recipe("relation_detr/shapes", OVERRIDES, smoke=True)
    with monkeypatch.context() as patch:
        patch.setattr(DetectionTask, "training_step", training_step)
        with pytest.raises(RuntimeError, match="cut short"):
            fit(recipe, run_dir=tmp_path / "cut", command=[], console=quiet)
    resume(tmp_path / "cut", console=quiet)
    whole, cut = (json.loads((path / "summary.json").read_text()) for path in (run, tmp_path / "cut"))
    for name in ("test/ap", "test/ap50", "val/ap"):
        assert cut[name] == whole[name]


def test_other_networks_and_sizes_are_refused_by_name():
    for override, named in (
        ("model.name=vit_tiny_patch16_224", "model.args.backbone"),
        ("model.args.backbone=resnet5x", "model.args.backbone=resnet5x"),
        ("model.args.qeries=3", "model.args.qeries"),
    ):
        with pytest.raises(UserError, match=named):
            build(load_recipe("relation_detr/shapes", [override], smoke=True), ["a", "b"])
