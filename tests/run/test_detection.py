"""Detection from end to end: training, evaluation, resumption, prediction."""

import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit, resume
from vision_train.tasks.detection.task import DetectionTask, build

# One group of denoising queries without noise, whatever the batch: nothing that each process draws for itself. Adam
# would make of rounding errors in small gradients whole steps.
ALIKE = (
    "method.denoising={count: 1, label_noise: 0, box_noise: 0}",
    *("augment.train.horizontal_flip=0", "trainer.limit_train_batches=3", "trainer.max_epochs=2", "optim.name=sgd"),
    *("trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0"),
)
FIRST = """
extends: relation_detr/shapes
data: {batch_size: 2, workers: 0}
model: {args: {dim: 32, heads: 2, encoder_layers: 1, decoder_layers: 2, queries: 10}}
trainer: {max_epochs: 1, limit_train_batches: 2, limit_val_batches: 2, limit_test_batches: 2}
"""
OVERRIDES = [
    *("trainer.limit_train_batches=3", "trainer.max_epochs=2", "optim.ema={decay: 0.5}"),
    "data.mixing={mosaic: 0.5, mixup: 0.5}",
]


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


def test_six_steps_teach_nothing_and_a_verdict_can_read_that(run):
    assert json.loads((run / "phases" / "fit" / "phase.json").read_text())["guesses"] is True
    assert "with the boxes of other images" in (run / "report.html").read_text()


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(run, tmp_path, cut_short, quiet):
    recipe = load_recipe("relation_detr/shapes", OVERRIDES, smoke=True)
    with cut_short(DetectionTask, 4):
        fit(recipe, run_dir=tmp_path / "cut", command=[], console=quiet)
    resume(tmp_path / "cut", console=quiet)
    whole, cut = (json.loads((path / "summary.json").read_text()) for path in (run, tmp_path / "cut"))
    for name in ("test/ap", "test/ap50", "val/ap"):
        assert cut[name] == whole[name]
    ours, theirs = (torch.load(path / "checkpoints/last.ckpt", weights_only=True) for path in (tmp_path / "cut", run))
    for state in ("state_dict", "averaged"):
        assert all(torch.equal(value, theirs[state][name]) for name, value in ours[state].items())


def _fit(rank: int, overrides: tuple[str, ...], run_dir: Path) -> None:
    recipe = load_recipe("relation_detr/shapes", [*ALIKE, *overrides], smoke=True)
    fit(recipe, run_dir=run_dir, command=[], console=Console(quiet=True))


def test_two_processes_train_and_measure_as_one(two_processes, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    _fit(0, ("data.batch_size=4",), one)
    two_processes(_fit, ("data.batch_size=2", "trainer.devices=2", "trainer.strategy=ddp"), two)
    mine, theirs = (json.loads((path / "summary.json").read_text()) for path in (one, two))
    assert theirs["train/samples"] == mine["train/samples"] == 24
    seen = (json.loads((path / "artefacts" / "test_items.json").read_text())["ids"] for path in (one, two))
    assert next(seen) == next(seen) == sorted(f"shapes/test_{number:04d}" for number in range(150))
    assert theirs["test/ap50"] == pytest.approx(mine["test/ap50"], abs=1e-4)
    ours, other = (torch.load(path / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for path in (one, two))
    for name, value in ours.items():
        torch.testing.assert_close(other[name], value, atol=1e-4, rtol=1e-3)
    assert evaluate_run(two, "test")["test/ap50"] == pytest.approx(theirs["test/ap50"], rel=1e-3)


def test_what_recipes_combine_trains_together(tmp_path, monkeypatch, quiet):
    """Two phases, mosaics and blends, frozen parts, factors, shared steps, workers, averaging, half precision."""
    monkeypatch.chdir(tmp_path)
    Path("first.yaml").write_text(FIRST)
    together = [
        *("run.pretrain=first.yaml", "data.workers=1", "data.mixing={mosaic: 0.5, mixup: 0.5}"),
        *("trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=2", "trainer.limit_train_batches=4"),
        *("model.freeze=[backbone.*]", "optim.lr_factors={'*sampling_offsets*': 0.1}", "optim.ema={decay: 0.5}"),
    ]
    recipe = load_recipe("relation_detr/shapes", together, smoke=True)
    path = fit(recipe, run_dir=Path("run"), command=[], console=quiet).path
    summary = json.loads((path / "summary.json").read_text())
    assert all(math.isfinite(value) for name, value in summary.items() if name.startswith(("test/", "val/")))
    before, after = (
        torch.load(path / "phases" / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("pretrain", "fit")
    )
    frozen = [name for name in after if name.startswith("network.backbone.")]
    assert frozen
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    assert not torch.equal(after["network.transformer.level_embeds"], before["network.transformer.level_embeds"])


def test_a_loss_that_is_not_finite_names_the_images(tmp_path, monkeypatch, quiet):
    original, calls = DetectionTask.training_step, iter(range(100))

    def training_step(self, batch, batch_idx):
        loss = original(self, batch, batch_idx)
        return loss * float("nan") if next(calls) == 1 else loss

    monkeypatch.setattr(DetectionTask, "training_step", training_step)
    recipe = load_recipe("relation_detr/shapes", OVERRIDES, smoke=True)
    with pytest.raises(
        UserError, match=r"no longer finite .*first with shapes/train_\d+, shapes/train_\d+ .*optim\.lr"
    ):
        fit(recipe, run_dir=tmp_path / "run", command=[], console=quiet)


def test_other_networks_and_sizes_are_refused_by_name():
    for override, named in (
        ("model.name=vit_tiny_patch16_224", "model.args.backbone"),
        ("model.args.backbone=resnet5x", "model.args.backbone=resnet5x"),
        ("model.args.backbone=vit_tiny_patch16_224", "model.args.backbone=vit_tiny.*model.args.backbone_args"),
        ("model.args.backbone_args=3", "model.args.backbone_args: is 3"),
        ("model.args.qeries=3", "model.args.qeries"),
        ("model.args.queries=-1", "model.args.queries: is -1.*at least 1"),
        ("model.args.queries=2.5", "model.args.queries: is 2.5.*whole number"),
        ("model.args.hybrid_queries=-1", "model.args.hybrid_queries: is -1.*at least 0"),
        ("model.args.relation=7", "model.args.relation: is 7.*true or false"),
        ("model.args.levels=2", "model.args.levels: is 2.*at least 3"),
        ("model.args.heads=3", "model.args.heads: is 3.*dim"),
        ("model.args.dim=33", "model.args.dim: is 33.*multiple of 32"),
    ):
        with pytest.raises(UserError, match=named):
            build(load_recipe("relation_detr/shapes", [override], smoke=True), ["a", "b"])
