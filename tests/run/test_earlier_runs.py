"""Runs as version 0.1.0 left them, with one `data` section for all kinds of data, still serve."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.recipe import load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit, resume
from vision_train.run.phase import Prepared, prepare, scan
from vision_train.run.predict import predict_run

QUIET = Console(quiet=True)
DATA = """
data:
  source: digits
  root: null
  labels: null
  probe: null
  splits: null
  label_map: null
  variant: null
  feature_width: null
  encoder: null
  labels_per_class: null
  image_size: 16
  batch_size: 8
  workers: 0
  on_bad_image: error
  on_bad_bag: error
"""
REST = """
augment:
  train:
    crop_scale: null
    crop_ratio: [0.75, 1.3333333333333333]
    horizontal_flip: 0.0
    rand_augment: null
    color_jitter: 0.0
    erasing: 0.0
    interpolation: bicubic
  eval:
    crop_share: null
    interpolation: bicubic
  mixing:
    maskmix: 0.0
    mixup: 0.0
    cutmix: 0.0
    mask_patch: null
    maskmix_alpha: 1.0
    mixup_alpha: 0.8
    cutmix_alpha: 1.0
    partner: permutation
    labels: area
    alpha_grad: false
    alpha_rescale: false
  mean: [0.5, 0.5, 0.5]
  std: [0.5, 0.5, 0.5]
model:
  name: vit
  args: {}
  checkpoint: null
  positions: learned
  head_std: null
  min_matched_share: 0.9
  attention: auto
  compile: false
optim:
  name: adamw
  lr: 0.002
  lr_reference_batch: null
  min_lr: 0.0
  warmup_lr: 0.0
  warmup_epochs: 0.0
  schedule: cosine
  weight_decay: 0.05
  betas: null
  layer_decay: null
  clip_each_norm: null
  ema:
    decay: 0.9
trainer:
  max_epochs: 1
  limit_train_batches: 2
  check_val_every_n_epoch: 1
  accelerator: cpu
run:
  select:
    metric: val/accuracy
    mode: max
  pretrain: null
  on_nan: stop
"""
CLASSIFICATION = {
    "task": "classification",
    "model.args": {"patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2},
    "method": {"label_smoothing": 0.1},
}
BAGS = {
    "task": "bags",
    **{"data.source": "digit_bags", "data.feature_width": 64, "data.encoder": "pixels", "data.image_size": 224},
    **{"data.batch_size": 1, "data.label_map": {"0": "clear", "1": "marked"}},
    **{"augment.mean": [0.485, 0.456, 0.406], "augment.std": [0.229, 0.224, 0.225]},
    **{"model.name": "acmil_ga", "model.args": {"width": 16}, "run.select.metric": "val/auroc"},
    "method": {
        **{"branch_weight": 1.0, "diversity_weight": 1.0, "instance_weight": 0.0, "entropy_weight": 0.05},
        "hiding": {"top_k": 10, "drop_ratio": 0.6, "mode": "exact", "k_max_fraction": 0.02, "warmup_epochs": 0.0},
    },
}
PRETRAINING = {
    "task": "pretraining",
    **{"data.source": "images", "data.on_bad_image": "skip", "data.labels_per_class": 3, "data.splits": {"val": 0.2}},
    "model.args": {"patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2},
    **{"model.positions": "sincos", "run.select.metric": "val/acc1", "optim.ema": None},
    "method": {
        "masking": {"mask_ratio": 0.25, "position_mask_ratio": 0.75, "context_ratio": 1.0},
        "dropped_position": "learned",
        "decoder": {"width": 16, "depth": 1, "heads": 2},
        "smoothing": {"sigma": 1.0, "decay": True, "compat": None},
        **{"affinity": None, "position_weight": None},
    },
}


def earlier_recipe(changes: dict[str, Any]) -> dict[str, Any]:
    """A resolved recipe as version 0.1.0 wrote it."""
    recipe: dict[str, Any] = {"name": "old", "description": "", "seed": 0}
    recipe |= yaml.safe_load(DATA) | yaml.safe_load(REST)
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = recipe
        for section in sections:
            place = place[section]
        place[last] = value
    return recipe


def earlier_run(folder: Path, changes: dict[str, Any]) -> tuple[RunDirectory, RunDirectory]:
    """A run of two steps, as it is today and as version 0.1.0 would have left it."""
    recipe = earlier_recipe(changes)
    text = yaml.safe_dump(recipe, sort_keys=False)
    (folder / "resolved.yaml").write_text(text)
    today = fit(load_recipe(folder / "resolved.yaml"), run_dir=folder / "today", command=[], console=QUIET)
    old = RunDirectory(folder / "old")
    shutil.copytree(today.path, old.path)
    for file in (old.recipe, old.phase("fit") / "recipe.yaml"):
        file.write_text(text)
    old.described_metrics.unlink()
    summary = json.loads(old.summary.read_text())
    old.summary.write_text(json.dumps({key: value for key, value in summary.items() if not key.startswith("run/")}))
    for file in old.path.rglob("*.ckpt"):
        checkpoint = torch.load(file, weights_only=True)
        (module,) = (key for key in checkpoint if key.endswith("DataModule"))
        position = checkpoint.pop(module)["streams"]["train"]
        checkpoint["BagDataModule" if changes["task"] == "bags" else "ImageDataModule"] = position
        file.unlink()  # two names of one file
        torch.save({**checkpoint, "recipe": recipe}, file)
    return today, old


@pytest.fixture(scope="module")
def classified(tmp_path_factory) -> tuple[RunDirectory, RunDirectory]:
    return earlier_run(tmp_path_factory.mktemp("classified"), CLASSIFICATION)


@pytest.fixture(scope="module")
def bagged(tmp_path_factory) -> tuple[RunDirectory, RunDirectory]:
    return earlier_run(tmp_path_factory.mktemp("bagged"), BAGS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    make_image_folder(folder / "photos", classes=2, per_class=12, size=(20, 20))
    return folder / "photos"


@pytest.fixture(scope="module")
def pretrained(photos) -> tuple[RunDirectory, RunDirectory]:
    places = {"data.root": str(photos), "data.probe": str(photos)}
    return earlier_run(photos.parent, PRETRAINING | places)


@pytest.fixture(params=["classified", "bagged", "pretrained"])
def runs(request) -> tuple[RunDirectory, RunDirectory]:
    return request.getfixturevalue(request.param)


def start(recipe: str, *overrides: str) -> Prepared:
    return prepare(scan(load_recipe(recipe, [*overrides, "data.workers=0", "trainer.accelerator=cpu"])))


def predictions(run: RunDirectory, inputs: Path, **options: Any) -> list[dict[str, str]]:
    given: dict[str, Any] = {"overrides": (), "render": None, "images": None, "console": QUIET, **options}
    predict_run(run.path, [inputs], out=Path("out.csv"), force=True, **given)
    with Path("out.csv").open() as file:
        return list(csv.DictReader(file))


def test_evaluation_measures_what_it_measured(runs):
    today, old = runs
    found = evaluate_run(old.path, None)
    assert found == evaluate_run(today.path, None)
    summary = json.loads(old.summary.read_text())
    measured = {key: value for key, value in found.items() if key in summary}
    assert len(measured) >= 4
    assert measured == {key: pytest.approx(summary[key], abs=1e-6) for key in measured}


def test_evaluation_takes_today_s_keys(classified):
    _, old = classified
    assert evaluate_run(old.path, "val", ["data.on_bad=skip", "data.batch_size=50"])["val/samples"] == 200
    with pytest.raises(UserError, match=r"data\.on_bad_image: unknown key; did you mean data\.on_bad\?"):
        evaluate_run(old.path, "val", ["data.on_bad_image=skip"])


def test_policies_and_what_the_data_said_are_kept(bagged, pretrained, photos):
    data = load_recipe(bagged[1].recipe).data
    assert (data.feature_width, data.encoder, data.label_map) == (64, "pixels", {"0": "clear", "1": "marked"})
    data = load_recipe(pretrained[1].recipe).data
    assert (data.on_bad, data.probe, data.labels_per_class) == ("skip", str(photos), 3)
    assert data.splits == {"val": 0.2}


def test_images_are_predicted(classified, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    today, old = classified
    found = predictions(old, photos, render=Path("seen"))
    assert len(found) == len(list(Path("seen").glob("*.png"))) == 24
    assert found == predictions(today, photos)


def test_bags_are_predicted(bagged, write_features, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_features(Path("bags"), "a", "b")
    today, old = bagged
    found = predictions(old, Path("bags"), render=Path("seen"))
    assert list(found[0]) == ["slide_id", "label", "confidence", "clear", "marked"]
    assert Path("seen/attention.csv").is_file()
    assert found == predictions(today, Path("bags"))


def test_they_serve_as_a_start(classified, bagged, pretrained):
    small = "model.args={patch_size: 4, embed_dim: 24, depth: 1, num_heads: 2}"
    for recipe, (_, old), overrides in (
        ("quickstart", classified, [small]),
        ("acmil/digit_bags", bagged, ["model.args={width: 16}"]),
        ("studies/droppos/finetune_digits_scratch", pretrained, [small, "model.positions=sincos"]),
    ):
        for place in (old.path, old.best):
            prepared = start(recipe, *overrides, f"model.checkpoint={place}")
            assert prepared.load_reports[0].matched_share == 1, (recipe, place)


def test_what_they_learned_from_is_told(pretrained, photos):
    overrides = ["data.source=images", f"data.root={photos}", "data.labels_per_class=null", "data.batch_size=4"]
    small = ["model.args={patch_size: 4, embed_dim: 24, depth: 1, num_heads: 2}", "model.positions=sincos"]
    _, old = pretrained
    notes = start(
        "studies/droppos/finetune_digits_scratch", *overrides, *small, f"model.checkpoint={old.path}"
    ).data.notes
    assert any("2 of the 2 test images" in note and str(old.path) in note for note in notes)


def test_a_start_from_features_of_another_encoder_is_refused(bagged, write_features, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_features(Path("bags"), *(f"{number:03d}" for number in range(12)), encoder="uni")
    rows = [f"{number:03d},{number % 2}" for number in range(12)]
    Path("labels.csv").write_text("\n".join(["slide_id,label", *rows]) + "\n")
    _, old = bagged
    data = ["data.source=bags", "data.root=bags", "data.labels=labels.csv", "data.variant=null"]
    with pytest.raises(UserError, match=r"encoder uni, but model\.checkpoint .*old.* pixels"):
        start("acmil/digit_bags", *data, "model.args={width: 16}", f"model.checkpoint={old.path}")


def test_the_label_map_tells_a_kept_head_from_others(bagged):
    _, old = bagged
    notes = start("acmil/digit_bags", "model.args={width: 16}", f"model.checkpoint={old.path}").data.notes
    assert any("its head is kept: 0 with that of clear, 1 with that of marked" in note for note in notes)


def test_an_unfinished_one_goes_on_and_says_what_its_checkpoint_does_not(classified, tmp_path):
    _, old = classified
    cut = RunDirectory(tmp_path / "cut")
    shutil.copytree(old.path, cut.path)
    cut.summary.unlink()
    (cut.phase("fit") / "phase.json").unlink()
    for file in cut.path.rglob("last.ckpt"):
        checkpoint = torch.load(file, weights_only=True)
        del checkpoint["conditions"]  # 0.1.0 kept none
        file.unlink()
        torch.save(checkpoint, file)
    console = Console(file=io.StringIO(), width=300)
    assert resume(cut.path, console=console).summary.is_file()
    assert "last.ckpt: of an earlier version" in console.file.getvalue()
