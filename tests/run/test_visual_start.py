"""From a visual branch that was trained on images with boxes to a network for expressions, in one run and in two."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.dry_run import dry_run
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import check_phases, fit
from vision_train.run.phase import prepare, scan
from vision_train.run.plan import plan_of
from vision_train.run.predict import predict_run
from vision_train.run.preview import preview

VISUAL, GROUNDING = "actress/referring_visual", "studies/actress/referring_supervised"
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    """A short run of the visual branch; it is only read."""
    place = tmp_path_factory.mktemp("visual") / "run"
    return fit(load_recipe(VISUAL, smoke=True), run_dir=place, command=[], console=QUIET).path


def weights(run: Path) -> dict[str, torch.Tensor]:
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    return {name.removeprefix("network."): tensor for name, tensor in stored.items()}


def test_the_branch_is_measured_and_evaluated_again(warm):
    summary = json.loads((warm / "summary.json").read_text())
    measured = evaluate_run(warm, "test")
    for metric in ("cell_accuracy", "cell_iou", "empty_accuracy"):
        assert measured[f"test/{metric}"] == pytest.approx(summary[f"test/{metric}"], abs=1e-9)
    assert "Not shown" not in (warm / "report.html").read_text()


def test_it_predicts_nothing_by_itself(warm, tmp_path):
    with pytest.raises(UserError, match="dense_detection, which predicts nothing by itself"):
        predict_run(warm, [], overrides=[], out=tmp_path / "a.csv", render=None, images=None, console=QUIET)


def test_it_is_previewed_and_tried(tmp_path):
    recipe = load_recipe(VISUAL, smoke=True)
    preview(recipe, tmp_path / "preview.png", count=2, console=QUIET)
    assert (tmp_path / "preview.png").stat().st_size > 0
    assert "classes            24" in dry_run(recipe)


def grounding(*overrides: str):
    return load_recipe(GROUNDING, ["model.freeze=[visual.*]", *overrides], smoke=True)


def start(*overrides: str):
    return prepare(scan(grounding(*overrides)))


@pytest.mark.parametrize("key", ["model.checkpoint={}", "model.checkpoint={{visual: {}}}"])
def test_a_network_for_expressions_takes_all_of_it_and_begins_the_rest_anew(warm, key):
    prepared = start(key.format(warm))
    fresh, source = start(), weights(warm)
    for name, tensor in prepared.task.network.state_dict().items():
        if name.startswith("visual."):
            assert torch.equal(tensor, source[name]), name
        else:
            assert torch.equal(tensor, fresh.task.network.state_dict()[name]), name
    (report,) = prepared.load_reports
    assert (report.matched_share, report.missing, report.resized) == (1, [], [])
    heads = {"class_head", "nothing_head", "edge_head"}
    assert {name.partition(".")[0] for name in report.unexpected} == heads
    assert not any(each.requires_grad for each in prepared.task.network.visual.parameters())


def test_a_network_of_another_form_is_refused_before_anything_is_written(tmp_path):
    for other in ("model.args.visual_layers=2", "model.args.dim=32"):
        pretrain = ["run.pretrain=actress/referring_visual", other]
        with pytest.raises(UserError, match=r"^run\.pretrain="):
            check_phases(plan_of(grounding(*pretrain)))


def test_a_branch_that_lacks_a_tensor_is_refused(warm, tmp_path):
    state = weights(warm)
    del state["visual.transformer.encoder.layers.0.linear1.weight"]
    torch.save(state, tmp_path / "half.pth")
    for key in ("model.checkpoint={}", "model.checkpoint={{visual: {}}}"):
        with pytest.raises(UserError, match=r"linear1\.weight"):
            start(key.format(tmp_path / "half.pth"))


def test_one_run_trains_both_and_a_frozen_branch_stays_as_it_was(tmp_path):
    (tmp_path / "visual.yaml").write_text(
        f"extends: {VISUAL}\nmodel: {{args: {{hidden: 32}}}}\ndata: {{batch_size: 4}}\noptim: {{warmup_steps: 0}}\n"
        "trainer: {max_steps: null, max_epochs: 1, limit_train_batches: 2, limit_val_batches: 2,\n"
        "  limit_test_batches: 2}\n"
    )
    recipe = grounding(f"run.pretrain={tmp_path / 'visual.yaml'}")
    directory = fit(recipe, run_dir=tmp_path / "run", command=[], console=QUIET)
    before = weights(directory.phase("pretrain"))
    for name, tensor in weights(directory.path).items():
        assert not name.startswith("visual.") or torch.equal(tensor, before[name]), name
    summary = json.loads(directory.summary.read_text())
    assert summary["checkpoint/matched_share"] == 1
    assert summary["run/steps"] == 4
    page = (directory.path / "report.html").read_text()
    assert "Phase pretrain" in page
    assert "covered cells named right" in page.lower()
