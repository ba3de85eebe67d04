"""Run directories as a finished run leaves them, without training: files of the agreed form with made-up numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_train.artefacts import Curve, ImageGrid, Matrix, Table, write_artefact

RECIPE = """\
name: {name}
description: {description}
task: classification
seed: 0
data:
  source: digits
  root: null
  image_size: 16
  batch_size: 64
model:
  name: vit
  args: {{patch_size: 4, embed_dim: 96, depth: 4, num_heads: 3}}
  checkpoint: null  # a comment
optim:
  lr: 0.002
  warmup_epochs: 5.0
trainer:
  max_epochs: {epochs}
run:
  select:
    metric: val/accuracy
    mode: max
"""
ENVIRONMENT = {
    "vision_train": "0.1.0",
    "python": "3.11.9",
    "platform": "Linux-6.1-x86_64",
    "packages": {"torch": "2.10.0", "torchvision": "0.25.0", "xformers": None, "timm": "1.0.31", "numpy": "2.4.6"},
    "device": "A processor",
    "processors": 2,
    "threads": 2,
    "command": "vision-train fit quickstart",
}


def metrics_lines(phase: str, epochs: int, steps_per_epoch: int, logged_every: int, noise: np.random.Generator):
    total = epochs * steps_per_epoch
    for epoch in range(epochs):
        for step in range(epoch * steps_per_epoch + logged_every, (epoch + 1) * steps_per_epoch + 1, logged_every):
            yield {
                "phase": phase,
                "epoch": epoch,
                "step": step,
                "time": 1.2 * step / steps_per_epoch,
                "train/loss": 0.35 + 2 * np.exp(-5 * step / total) + 0.08 * noise.normal(),
                "train/samples_per_second": 1150 + 40 * noise.normal(),
                "train/data_wait": 0.02 + 0.01 * noise.random(),
                "lr": 1e-3 * (1 + np.cos(np.pi * step / total)),
            }
        progress = (epoch + 1) / epochs
        yield {
            "phase": phase,
            "epoch": epoch,
            "step": (epoch + 1) * steps_per_epoch,
            "time": 1.2 * (epoch + 1),
            "val/loss": 0.08 + 2.1 * np.exp(-6 * progress) + 0.01 * noise.normal(),
            "val/accuracy": min(0.985, 1 - 0.9 * np.exp(-5 * progress) + 0.004 * noise.normal()),
            "val/accuracy_top5": min(1.0, 1 - 0.4 * np.exp(-9 * progress)),
            "val/calibration_error": 0.02 + 0.1 * np.exp(-4 * progress),
        }


def write_lines(path: Path, lines) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_result_artefacts(folder: Path, classes: list[str], per_class: int, hits: float, noise: np.random.Generator):
    """Summary, per-class table, confusion and reliability of imagined predictions; returns the accuracy."""
    count = len(classes)
    truth = np.repeat(np.arange(count), per_class)
    near = (truth + noise.integers(1, 4, truth.size)) % count
    predicted = np.where(noise.random(truth.size) < hits, truth, near)
    confusion = np.zeros((count, count), dtype=int)
    np.add.at(confusion, (truth, predicted), 1)
    accuracy = float((truth == predicted).mean())
    summary_rows = [["images", truth.size], ["loss", 0.0823], ["accuracy", accuracy]]
    write_artefact(folder, Table("test_summary", "Result on test", ["metric", "value"], summary_rows))
    rows = [
        [name, per_class, confusion[k, k] / per_class, confusion[k, k] / max(confusion[:, k].sum(), 1)]
        for k, name in enumerate(classes)
    ]
    columns = ["class", "images", "recall", "precision"]
    write_artefact(folder, Table("test_per_class", "Per class on test", columns, rows, "Recall is the accuracy."))
    labels = ("true class", "predicted class")
    write_artefact(folder, Matrix("test_confusion", "Confusion on test", *labels, classes, classes, confusion.tolist()))
    bins = [0.35, 0.45, 0.58, 0.7, 0.82, 0.93, 0.99]
    lines = {"observed": [0.3, 0.5, 0.52, 0.75, 0.86, 0.95, 0.99], "perfectly calibrated": bins}
    title = "Reliability on test"
    write_artefact(folder, Curve("test_reliability", title, "mean confidence", "accuracy", bins, lines, "15 bins."))
    return accuracy


def checkpoint_table(name: str) -> Table:
    columns = ["outcome", "name", "tensors", "shape in file", "shape in model", "parameters", "share of model"]
    rows = [
        ["matched", "blocks.*.attn.qkv.weight", 4, "288 x 96", "288 x 96", 110592, 0.6],
        ["matched", "blocks.*.mlp.fc1.weight", 4, "384 x 96", "384 x 96", 73728, 0.35],
        ["re-initialised", "head.weight", 1, "1000 x 96", "10 x 96", 960, 0.05],
    ]
    return Table(name, "What the checkpoint filled", columns, rows, "95.0 % matched\nmatched: taken as it is")


def write_summary(folder: Path, accuracy: float) -> None:
    figures = {
        "test/loss": 0.0823,
        "test/accuracy": accuracy,
        "test/accuracy_top5": 1.0,
        "test/calibration_error": 0.0134,
        "val/accuracy": 0.985,
        "val/loss": 0.09,
        "train/best_epoch": 52,
        "train/samples_per_second": 1150.3,
        "train/seconds": 71.8,
        "train/peak_memory_bytes": 734003200,
        "model/parameters": 452_170,
        "checkpoint/matched_share": 0.95,
    }
    (folder / "summary.json").write_text(json.dumps(figures), encoding="utf-8")


@pytest.fixture
def digits_run(tmp_path: Path) -> Path:
    """A finished run on ten classes."""
    from sklearn.datasets import load_digits

    noise = np.random.default_rng(0)
    folder = tmp_path / "runs" / "quickstart" / "0"
    folder.mkdir(parents=True)
    recipe = RECIPE.format(name="quickstart", description="A small ViT on the bundled digits", epochs=60)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT), encoding="utf-8")
    write_lines(folder / "metrics.jsonl", metrics_lines("fit", 60, 21, 5, noise))
    accuracy = write_result_artefacts(folder / "artefacts", [str(k) for k in range(10)], 30, 0.96, noise)
    scans = load_digits()
    pictures = [np.repeat((scan * 15.9).astype(np.uint8)[..., None], 3, axis=2) for scan in scans.images[:24]]
    captions = [f"{k % 10}, taken for {(k + 3) % 10} (97 %)\nscan-{k:04d}" for k in scans.target[:24]]
    note = "Wrong predictions with the highest loss."
    write_artefact(folder / "artefacts", ImageGrid("test_mistakes", "Worst mistakes on test", pictures, captions, note))
    write_artefact(folder / "artefacts", checkpoint_table("fit_checkpoint"))
    write_summary(folder, accuracy)
    return folder


@pytest.fixture
def two_phase_run(tmp_path: Path) -> Path:
    """A finished run of two phases on two hundred classes, its log long enough to be thinned."""
    noise = np.random.default_rng(1)
    folder = tmp_path / "runs" / "birds" / "vit_small" / "3"
    folder.mkdir(parents=True)
    recipe = RECIPE.format(name="birds/vit_small", description="Two hundred birds after pre-training", epochs=30)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT), encoding="utf-8")
    pretraining = [
        {key: value for key, value in line.items() if "accuracy" not in key and "calibration" not in key}
        for line in metrics_lines("pretrain", 20, 200, 10, noise)
    ]
    write_lines(folder / "metrics.jsonl", [*pretraining, *metrics_lines("fit", 30, 100, 10, noise)])
    for name in ("pretrain", "fit"):
        phase = folder / "phases" / name
        phase.mkdir(parents=True)
        facts = {"name": name, "recipe": "droppos/pretrain", "figures": {"train/seconds": 35.9}, "skipped": []}
        (phase / "phase.json").write_text(json.dumps(facts), encoding="utf-8")
        (phase / "recipe.yaml").write_text(recipe.replace("seed: 0", "seed: 1"), encoding="utf-8")
    classes = [f"{k:03d}.{kind}_of_the_forest" for k, kind in enumerate(["Warbler", "Finch", "Wren", "Tern"] * 50)]
    accuracy = write_result_artefacts(folder / "artefacts", classes, 30, 0.85, noise)
    photograph = Image.effect_mandelbrot((224, 160), (-2, -1, 1, 1), 60).convert("RGB")
    captions = ["001.Finch_of_the_forest, taken for 003.Tern_of_the_forest (88 %)\nimages/photo.jpg"] * 9
    write_artefact(
        folder / "artefacts", ImageGrid("test_mistakes", "Worst mistakes", [np.asarray(photograph)] * 9, captions)
    )
    write_artefact(folder / "artefacts", checkpoint_table("pretrain_checkpoint"))
    write_artefact(folder / "artefacts", checkpoint_table("fit_checkpoint"))
    write_summary(folder, accuracy)
    return folder


@pytest.fixture
def write_metrics() -> Callable[[Path, list[dict]], None]:
    """Writes lines of metrics.jsonl to a path."""
    return write_lines
