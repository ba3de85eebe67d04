"""A run that predicts numbers: what it measures and keeps, evaluates, predicts and exports."""

import csv
import io
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from rich.console import Console
from transformers import AutoModelForImageClassification

import vision_train
from vision_train.checkpoints import read_weights
from vision_train.data.toy.discs import TABLE_NAME, discs_samples, make_discs
from vision_train.recipe import load_recipe
from vision_train.run import range_test
from vision_train.run.directory import PASSED_ON, RunDirectory
from vision_train.run.dry_run import dry_run
from vision_train.run.evaluate import evaluate_run
from vision_train.run.export.verb import export_run
from vision_train.run.fit import fit, resume
from vision_train.run.predict import predict_run
from vision_train.run.shards import Shard
from vision_train.tasks.regression.task import DEVIATION, MEAN, RegressionTask

QUIET = Console(quiet=True)
SMALL = [
    *("model.name=vit", "model.args={patch_size: 16, embed_dim: 12, depth: 1, num_heads: 1}", "data.batch_size=50"),
    *("trainer.max_epochs=2", "trainer.limit_train_batches=4", "optim.warmup_epochs=0"),
]


@pytest.fixture(scope="module")
def discs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "discs"
    make_discs(folder)
    return folder


@pytest.fixture(scope="module")
def run(discs, tmp_path_factory) -> Path:
    keys = [*SMALL, "data.source=table", f"data.labels={discs / TABLE_NAME}"]
    recipe = load_recipe("regression/discs", keys)
    return fit(recipe, run_dir=tmp_path_factory.mktemp("runs") / "run", command=[], console=QUIET).path


def test_a_run_measures_and_shows_errors(run):
    summary = json.loads((run / "summary.json").read_text())
    assert {f"test/{name}" for name in ("loss", "mae", "rmse", "r2", "pearson", "spearman")} <= summary.keys()
    assert {"test_scatter_0", "test_per_target", "test_worst"} <= {file.stem for file in (run / "artefacts").iterdir()}
    page = (run / "report.html").read_text()
    assert "diameter on test, predicted by measured" in page
    assert "accuracy" not in page.lower().replace("val/accuracy", "")


def test_numbers_are_not_called_classes(tmp_path):
    said = io.StringIO()
    recipe = load_recipe("regression/discs", [*SMALL, "trainer.max_epochs=1", "trainer.limit_train_batches=1"])
    fit(recipe, run_dir=tmp_path / "run", command=[], console=Console(file=said, width=1000))
    tried = dry_run(recipe)
    assert "numbers: diameter from" in said.getvalue()
    assert "\nnumbers " in tried
    assert "class" not in said.getvalue()
    assert "class" not in tried


def test_the_weights_keep_what_the_numbers_were_standardised_by(run):
    numbers = np.array([sample.truth[0] for sample in discs_samples() if sample.split == "train"])
    kept = read_weights(run).facts["calibration"]
    assert kept[MEAN] == pytest.approx([numbers.mean()])
    assert kept[DEVIATION] == pytest.approx([numbers.std()])


def test_a_resumed_run_keeps_its_standard_where_the_numbers_changed(discs, tmp_path, cut_short):
    """The weights mean nothing by another one: what they predict would jump."""
    table = tmp_path / "table.csv"
    rows = list(csv.DictReader((discs / TABLE_NAME).open()))

    def write(factor: float) -> None:
        lines = [f"{discs / row['path']},{factor * float(row['diameter'])},{row['split']}" for row in rows]
        table.write_text("\n".join(["path,diameter,split", *lines]))

    write(1)
    keys = [*SMALL, "data.source=table", f"data.labels={table}", "trainer.limit_train_batches=2"]
    with cut_short(RegressionTask, 3):  # in the second epoch
        fit(load_recipe("regression/discs", keys), run_dir=tmp_path / "run", command=[], console=QUIET)
    before = read_weights(tmp_path / "run").facts["calibration"]
    write(10)
    resume(tmp_path / "run", console=QUIET, accept=["data.samples"])
    assert read_weights(tmp_path / "run").facts["calibration"] == before
    last = torch.load(tmp_path / "run/phases/fit/checkpoints/last.ckpt", weights_only=True)
    assert (last["epoch"], last["calibration"]) == (1, before)


def _fit_as_started(rank: int, keys: Sequence[str], run_dir: Path) -> None:
    """Fit as Lightning does, which starts the second process once the first has made the directory."""
    while rank and not RunDirectory(run_dir).environment.is_file():
        time.sleep(0.05)
    os.environ |= {PASSED_ON: str(run_dir)} if rank else {}
    with pytest.MonkeyPatch.context() as patch:
        # A network that trains within seconds learns too little to stand out of the noise of its losses.
        patch.setattr(range_test, "_scatter", lambda losses: 0.0)
        fit(load_recipe("regression/discs", keys), run_dir=run_dir, command=[], console=QUIET)


@pytest.mark.slow
def test_two_processes_learn_numbers_as_one_at_a_rate_that_the_first_finds(tmp_path, two_processes):
    keys = [*SMALL, "model.args={patch_size: 16, embed_dim: 48, depth: 1, num_heads: 2}"]
    keys += ["trainer.limit_train_batches=null", "trainer.max_epochs=1"]
    two = ["trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=25", "optim.lr=auto"]
    two_processes(_fit_as_started, [*keys, *two], tmp_path / "two")
    found = load_recipe(tmp_path / "two" / "recipe.yaml")
    assert found.run.automatic == []
    assert 1e-4 < found.optim.lr != load_recipe("regression/discs").optim.lr
    assert "one of the run has 50" in json.loads((tmp_path / "two/artefacts/range_test.json").read_text())["note"]
    _fit_as_started(0, [*keys, f"optim.lr={found.optim.lr}"], tmp_path / "one")
    ours, theirs = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("two", "one"))
    assert ours["train/steps"] == theirs["train/steps"] == 12
    for name in ("val/loss", "val/mae", "test/loss", "test/mae", "test/r2"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3), name
    standards = [read_weights(tmp_path / name).facts["calibration"] for name in ("two", "one")]
    assert standards[0] == standards[1]
    items = json.loads((tmp_path / "two" / "artefacts" / "test_items.json").read_text())["ids"]
    assert len(set(items)) == len(items) == 150  # each counted once


def test_evaluation_repeats_the_test(run):
    summary, again = json.loads((run / "summary.json").read_text()), evaluate_run(run, "test", console=QUIET)
    names = [f"test/{name}" for name in ("loss", "mae", "r2")]
    assert [again[name] for name in names] == pytest.approx([summary[name] for name in names], abs=1e-5)


def test_predictions_and_an_exported_program_agree(run, discs, tmp_path):
    images = sorted((discs / "images").glob("test_000*.png"))
    predict_run(
        run, images, overrides=[], out=tmp_path / "p.csv", render=tmp_path / "drawn", images=None, console=QUIET
    )
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    items = json.loads((run / "artefacts" / "test_items.json").read_text())
    for row in rows:
        place = items["ids"].index(f"images/{Path(row['path']).name}")
        assert float(row["diameter"]) == pytest.approx(items["columns"]["predicted"][place][0], abs=1e-3)
    assert len(list((tmp_path / "drawn").glob("*.png"))) == len(rows) == 10
    folder, description = export_run(run, "safetensors", out=tmp_path / "exported", size=None, console=QUIET)
    assert json.loads(description.read_text())["classes"] == ["diameter"]
    assert torch.is_tensor(next(iter(read_weights(folder / "weights.safetensors").state.values())))


def test_shards_hold_every_image_once(run, discs, tmp_path):
    out = tmp_path / "p.csv"
    options = {"overrides": [], "out": out, "render": None, "images": None, "console": QUIET}
    for number in (1, 2):
        predict_run(run, [discs / "images"], shard=Shard(number, 2), **options)
    tables = [list(csv.DictReader((tmp_path / f"p-0000{number}-of-00002.csv").open())) for number in (1, 2)]
    names = [Path(row["path"]).name for rows in tables for row in rows]
    assert sorted(names) == sorted(path.name for path in (discs / "images").iterdir())


def test_a_network_that_is_loaded_gives_units(run, discs):
    loaded = vision_train.load(run)
    items = json.loads((run / "artefacts" / "test_items.json").read_text())
    with Image.open(discs / items["ids"][0]) as image, torch.inference_mode():
        found = loaded.network(loaded.transform(image)[None])
    assert found.tolist() == [pytest.approx(items["columns"]["predicted"][0], abs=1e-2)]
    assert not loaded.network.training


@pytest.mark.parametrize("format", ["timm", "hf", "onnx"])
def test_what_others_load_gives_units_by_itself(run, discs, tmp_path, format):
    place, _ = export_run(
        run, format, out=tmp_path / f"exported{'.onnx' * (format == 'onnx')}", size=None, console=QUIET
    )
    model = timm.create_model(f"local-dir:{export_run_as_timm(run, tmp_path)}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    items = json.loads((run / "artefacts" / "test_items.json").read_text())
    shown = [discs / name for name in items["ids"][:4]]
    images = torch.stack([transform(Image.open(image).convert("RGB")) for image in shown])
    found = outputs_of(format, place, images)
    assert found.tolist() == [pytest.approx(numbers, abs=1e-2) for numbers in items["columns"]["predicted"][:4]]
    assert found.min() > 1  # diameters in pixels; standardised ones lie about 0


def export_run_as_timm(run: Path, folder: Path) -> Path:
    """A folder of timm, which says how images are prepared."""
    place = folder / "of_timm"
    export_run(run, "timm", out=place, size=None, console=QUIET)
    return place


def outputs_of(format: str, place: Path, images: torch.Tensor) -> torch.Tensor:
    """What another library computes of prepared images."""
    if format == "onnx":
        return torch.from_numpy(onnxruntime.InferenceSession(str(place)).run(None, {"image": images.numpy()})[0])
    with torch.inference_mode():
        if format == "hf":
            return AutoModelForImageClassification.from_pretrained(place, local_files_only=True).eval()(images).logits
        return timm.create_model(f"local-dir:{place}", pretrained=True).eval()(images)
