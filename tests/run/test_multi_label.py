"""Runs on images with several labels, from a table to a report, predictions, an exported program and a verdict."""

import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from rich.console import Console

from vision_train.artefacts import Items, read_artefact
from vision_train.checkpoints import read_weights
from vision_train.data.toy.signs import make_signs
from vision_train.recipe import load_recipe
from vision_train.run.evaluate import evaluate_run
from vision_train.run.export.verb import export_run
from vision_train.run.fit import fit
from vision_train.run.predict import predict_run
from vision_train.tasks.class_curves import THRESHOLDS

QUIET = Console(quiet=True)
SMALL = ["model.name=vit", "model.args={patch_size: 16, embed_dim: 12, depth: 1, num_heads: 1}", "data.batch_size=32"]
BRIEF = ["trainer.max_epochs=2", "trainer.limit_train_batches=6", "optim.warmup_epochs=0"]


@pytest.fixture(scope="module")
def signs(tmp_path_factory) -> Path:
    """Drawn signs with a column for each class, of which some values are missing."""
    folder = tmp_path_factory.mktemp("data") / "signs"
    make_signs(folder)
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    names = sorted({name for row in rows for name in row["label"].split("|") if name})
    lines = [f"path,split,{','.join(names)}"]
    for number, row in enumerate(rows):
        held = ["1" if name in row["label"].split("|") else "0" for name in names]
        held[number % 5] = "" if number % 7 == 0 else held[number % 5]
        lines.append(",".join([row["path"], row["split"], *held]))
    (folder / "columns.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def run(signs, tmp_path_factory) -> Path:
    keys = [*SMALL, *BRIEF, "data.source=images", f"data.labels={signs / 'columns.csv'}"]
    keys += ["augment.mixing={mixup: 0.5}", "method.class_weights=balanced"]
    recipe = load_recipe("multilabel/signs", keys)
    return fit(recipe, run_dir=tmp_path_factory.mktemp("runs") / "run", command=[], console=QUIET).path


def test_a_run_measures_and_shows_what_several_labels_mean(run):
    summary = json.loads((run / "summary.json").read_text())
    assert {key.removeprefix("test/") for key in summary if key.startswith("test/")} >= {
        *("loss", "map", "auroc", "f1", "f1_chosen")
    }
    assert not [key for key in summary if "accuracy" in key or "calibration" in key]
    shown = {file.stem for file in (run / "artefacts").glob("*.json")}
    assert {"test_per_class", "test_roc", "test_precision_recall", "test_mistakes"} <= shown
    assert not shown & {"test_confusion", "test_reliability"}
    assert "mean AP (mAP)" in (run / "report.html").read_text()


def test_evaluation_repeats_the_test(run):
    summary, again = json.loads((run / "summary.json").read_text()), evaluate_run(run, "test", console=QUIET)
    names = [f"test/{name}" for name in ("loss", "map", "auroc", "f1", "f1_chosen")]
    assert [again[name] for name in names] == pytest.approx([summary[name] for name in names], abs=1e-6)


def test_predictions_go_by_the_thresholds_of_validation(run, signs, tmp_path):
    images = sorted((signs / "images").glob("test_000*.png"))
    predict_run(
        run, images, overrides=[], out=tmp_path / "predicted.csv", render=tmp_path / "drawn", images=None, console=QUIET
    )
    rows = list(csv.DictReader((tmp_path / "predicted.csv").open()))
    (items,) = [
        found for file in (run / "artefacts").glob("test_items.json") if isinstance(found := read_artefact(file), Items)
    ]
    names = json.loads((run / "classes.json").read_text())
    assert len(rows) == len(images)
    for row in rows:
        place = items.ids.index(f"images/{Path(row['path']).name}")
        chosen = items.columns["at_chosen"][place]
        assert row["label"] == "|".join(name for name, is_chosen in zip(names, chosen, strict=True) if is_chosen)
        assert [float(row[name]) for name in names] == pytest.approx(items.columns["probabilities"][place], abs=1e-5)


def test_an_exported_program_gives_logits_of_each_class(run, tmp_path):
    file, description = export_run(run, "onnx", out=tmp_path / "signs.onnx", size=None, console=QUIET)
    card = json.loads(description.read_text())
    assert [*card["outputs"]] == ["logits"]
    assert "sigmoid" in card["outputs"]["logits"]
    chosen = read_weights(run).facts["calibration"][THRESHOLDS]
    assert dict(zip(card["classes"], card["thresholds"], strict=True)) == pytest.approx(chosen)
    image = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(str(file)).run(None, {"image": image})
    exported = tmp_path / "signs"
    export_run(run, "timm", out=exported, size=None, console=QUIET)
    model = timm.create_model(f"local-dir:{exported}", pretrained=True).eval()
    with torch.inference_mode():
        assert found == pytest.approx(model(torch.from_numpy(image)).numpy(), abs=1e-4)
