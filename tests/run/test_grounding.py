"""Grounding from end to end: training, evaluation, resumption, prediction, preview."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from vision_train.checkpoints import read_weights
from vision_train.cli.predict import predict
from vision_train.data.toy.refer_folder import write_refer
from vision_train.data.toy.referring import referring
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.dry_run import dry_run
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit, resume
from vision_train.run.inspection import described
from vision_train.run.phase import build_task
from vision_train.run.preview import preview
from vision_train.tasks.grounding.boxes import original_corners
from vision_train.tasks.grounding.task import GroundingTask

RECIPE = "studies/actress/referring_supervised"
LENGTH = (
    *("data.epoch_batches=3", "trainer.limit_train_batches=3", "trainer.max_epochs=2", "trainer.limit_test_batches=8"),
    "optim.ema={decay: 0.5}",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A short run; it is only read."""
    place = tmp_path_factory.mktemp("grounding") / "run"
    return fit(load_recipe(RECIPE, LENGTH, smoke=True), run_dir=place, command=[], console=Console(quiet=True)).path


def test_evaluation_repeats_the_result_and_knows_the_parts_of_the_test(run):
    summary = json.loads((run / "summary.json").read_text())
    measured = evaluate_run(run, "test")
    for metric in ("accuracy", "accuracy_25", "accuracy_75", "mean_iou"):
        assert measured[f"test/{metric}"] == pytest.approx(summary[f"test/{metric}"], abs=1e-9)
    assert "testA/mean_iou" in evaluate_run(run, "testA")
    assert summary["train/steps"] == 6


def test_the_report_shows_expressions_boxes_and_attention(run):
    page = (run / "report.html").read_text()
    for word in (
        "missed furthest",
        "Where the network looked",
        "what is meant",
        "Accuracy by length",
        "Accuracy by category",
    ):
        assert word in page
    for fault in ("Not shown", "Could not be read"):
        assert fault not in page


def test_items_of_an_image_are_resampled_together(run):
    items = json.loads((run / "artefacts" / "test_items.json").read_text())
    assert items["groups"] == [name.partition("#")[0] for name in items["ids"]]
    assert len(set(items["groups"])) < len(items["ids"])


def test_six_steps_teach_nothing_and_a_verdict_can_read_that(run):
    assert json.loads((run / "phases" / "fit" / "phase.json").read_text())["guesses"] is True
    assert "one and the same box for every expression" in (run / "report.html").read_text()


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(run, tmp_path, cut_short, quiet):
    with cut_short(GroundingTask, 4):
        fit(load_recipe(RECIPE, LENGTH, smoke=True), run_dir=tmp_path / "cut", command=[], console=quiet)
    resume(tmp_path / "cut", console=quiet)
    ours, theirs = (torch.load(path / "checkpoints/last.ckpt", weights_only=True) for path in (tmp_path / "cut", run))
    for state in ("state_dict", "averaged"):
        assert all(torch.equal(value, theirs[state][name]) for name, value in ours[state].items())


def test_a_csv_of_expressions_gives_a_box_each_in_pixels_of_the_original(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((30, 90, 3), 200, dtype=np.uint8)).save("wide.png")
    Path("pairs.csv").write_text("path,text\nwide.png,the red circle\nwide.png,leftmost square\n")
    predict(run, ["pairs.csv"], out=Path("boxes.csv"), render=Path("pictures"))
    with Path("boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == ["the red circle", "leftmost square"]
    for row in rows:
        left, top, right, bottom = (float(row[side]) for side in ("left", "top", "right", "bottom"))
        assert 0 <= left < right <= 90
        assert 0 <= top < bottom <= 30
        assert 0 < float(row["confidence"]) <= 1
    assert len(list(Path("pictures").glob("*.png"))) == 2


def test_a_text_about_images_is_answered_in_print_and_drawn_and_written_only_where_asked(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Image.fromarray(np.full((30, 90, 3), 200, dtype=np.uint8)).save(f"{name}.png")
    predict(run, ["one.png", "two.png"], render=Path("pictures"), text=["the red circle", "leftmost square"])
    answers = [line for line in capsys.readouterr().out.splitlines() if "confidence" in line]
    asked = [line.partition(": left ")[0] for line in answers]
    texts = ("“the red circle”", "“leftmost square”")
    assert asked == [f"{name}.png#{at}: {text}" for name in ("one", "two") for at, text in enumerate(texts, 1)]
    assert all(" pixels, confidence 0." in line for line in answers)
    assert len(list(Path("pictures").glob("*.png"))) == 4
    assert not Path("predictions.jsonl").exists()
    predict(run, ["one.png"], out=Path("out.jsonl"), text=["the red circle"])
    (line,) = map(json.loads, Path("out.jsonl").read_text().splitlines())
    numbers = [float(each) for each in re.findall(r"(?:left|top|right|bottom) ([0-9.]+)", answers[0])]
    assert line["box"] == pytest.approx(numbers, abs=0.051)
    with pytest.raises(UserError, match="--text"):
        predict(run, ["one.png"])


def test_a_written_folder_is_the_same_data_and_is_previewed(tmp_path, quiet):
    write_refer(referring(), tmp_path / "referring")
    out = tmp_path / "preview.png"
    overrides = ["data.source=phrases", f"data.root={tmp_path / 'referring'}"]
    preview(load_recipe(RECIPE, overrides, smoke=True), out, count=2, console=quiet)
    with Image.open(out) as picture:
        assert picture.height > 400


def test_boxes_are_carried_back_to_the_original_and_clipped_to_it():
    affine = torch.tensor([[0.5, 0, 4], [0, 0.5, 8], [0, 0, 1]], dtype=torch.float64)[None]
    inside = torch.tensor([[0.5, 0.5, 0.25, 0.25]])
    assert original_corners(inside, 32, affine, [(32, 48)]).tolist() == [[16, 8, 32, 24]]
    assert original_corners(torch.tensor([[0.5, 0.5, 2.0, 2.0]]), 32, affine, [(32, 48)]).tolist() == [[0, 0, 48, 32]]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.name=resnet50"], ["model.name=resnet50", "transvg", "vltvg"]),
        (["model.args.depth=3"], ["model.args.depth", "fusion_layers"]),
        (["model.args.image_size=64"], ["model.args.image_size", "data.image_size"]),
        (["model.args.stride=5"], ["model.args", "5"]),
        (["model.args.text.layers=3"], ["model.args.text.layers", "num_hidden_layers"]),
        (["model.args.text_layer=9"], ["model.args.text_layer", "9"]),
        (["model.attention=math"], ["model.attention=math"]),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_remedy(overrides, words):
    with pytest.raises(UserError) as caught:
        build_task(load_recipe(RECIPE, overrides), [])
    assert all(word in str(caught.value) for word in words)


def test_a_dry_run_says_nothing_of_resizing_that_does_not_happen():
    tried = dry_run(load_recipe(RECIPE, smoke=True))
    assert "data.image_size=32 augment.mean=[0.5,0.5,0.5]" in tried
    assert "bicubic" not in tried  # images with expressions are resized bilinearly


def test_weights_of_a_run_are_not_said_to_be_of_images_that_were_resized_otherwise(run):
    told = described(read_weights(str(run)), str(run))["resizing"]
    assert "task=grounding" in told
    assert "bicubic" not in told  # as above


VLTVG = """
task: grounding
data: {source: referring, image_size: 48, max_tokens: 6, batch_size: 4, workers: 0}
model:
  name: vltvg
  args:
    backbone: resnet10t
    backbone_args: {channels: [32, 32, 32, 32], stem_type: "", norm_layer: groupnorm}
    stride: 8
    dim: 32
    heads: 2
    hidden: 32
    visual_layers: 1
    stages: 2
    bins: 8
    text_layers: 1
    text: {hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32}
trainer: {max_epochs: 1, accelerator: cpu, limit_train_batches: 2, limit_val_batches: 2, limit_test_batches: 2}
run: {select: {metric: val/accuracy, mode: max}}
"""


def test_vltvg_trains_under_the_same_contract(tmp_path, quiet):
    (tmp_path / "vltvg.yaml").write_text(VLTVG)
    done = fit(load_recipe(tmp_path / "vltvg.yaml"), run_dir=tmp_path / "run", command=[], console=quiet)
    assert "test/mean_iou" in json.loads(done.summary.read_text())
