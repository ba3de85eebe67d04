"""Runs of pre-training, whole: what they leave, repeat, resume and measure."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.data.toy.folder import make_image_folder
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit, resume
from vision_train.tasks.pretraining.task import PretrainingTask

TINY = """
description: A tiny ViT on digits, with everything random that pre-training can hold.
extends: droppos/digits
seed: 3
data: {batch_size: 32, labels_per_class: 20}
augment: {train: {color_jitter: 0.2}}
model: {args: {embed_dim: 24, depth: 1, drop_path_rate: 0.1, proj_drop_rate: 0.1}}
method:
  decoder: {width: 16, depth: 1, heads: 2}
  affinity: {every: 2}
optim: {warmup_epochs: 1, ema: {decay: 0.9}, clip_each_norm: 1.0}
trainer: {max_epochs: 4, check_val_every_n_epoch: 1, limit_train_batches: 8, log_every_n_steps: 1}
"""
EVERY_EPOCH = "trainer.check_val_every_n_epoch=1"
SHORT = (EVERY_EPOCH, "trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.limit_val_batches=2")
SMALL = ("model.args.embed_dim=24", "model.args.depth=1", "data.labels_per_class=20")
"""Sizes for the shipped recipes that the tiny one does not extend."""
SMALL_DECODER = ("method.decoder.width=16", "method.decoder.depth=1")
METRICS = {f"val/{name}" for name in ("acc1", "acc1_weighted", "hard_ce", "grid_distance", "probe_accuracy")}
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Path of the tiny recipe; the working directory is a fresh one."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    return "tiny.yaml"


def run(*overrides: str, recipe: str = "tiny.yaml", run_dir: Path | None = None) -> RunDirectory:
    return fit(load_recipe(recipe, overrides), run_dir=run_dir, command=[], console=QUIET)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDirectory]:
    """A finished run of the tiny recipe, which no test changes."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY)
    return lambda *overrides: run(*overrides, recipe=str(folder / "tiny.yaml"), run_dir=folder / str(len(overrides)))


@pytest.fixture(scope="module")
def whole(finished: Callable[..., RunDirectory]) -> RunDirectory:
    return finished()


@pytest.fixture(scope="module")
def short(finished: Callable[..., RunDirectory]) -> RunDirectory:
    return finished(*SHORT)


def summary_of(directory: RunDirectory) -> dict[str, float]:
    return json.loads(directory.summary.read_text())


def figures(directory: RunDirectory) -> list[dict]:
    """Everything in the log that does not depend on the clock."""
    timed = ("time", "train/samples_per_second", "train/data_wait")
    return [{key: value for key, value in line.items() if key not in timed} for line in read_metrics(directory.metrics)]


def logged(directory: RunDirectory, key: str) -> list[float]:
    return [line[key] for line in read_metrics(directory.metrics) if key in line]


def weights(directory: RunDirectory) -> dict[str, torch.Tensor]:
    return torch.load(directory.path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original, calls = PretrainingTask.training_step, iter(range(10**6))

    def training_step(self, batch, batch_idx):
        if next(calls) == step:
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)

    monkeypatch.setattr(PretrainingTask, "training_step", training_step)


class TestFinishedRun:
    def test_learns(self, whole):
        losses, errors = logged(whole, "train/loss"), logged(whole, "val/hard_ce")
        assert sum(losses[-8:]) < 0.95 * sum(losses[:8])
        assert errors[-1] < min(errors[0], math.log(16))
        assert logged(whole, "val/probe_accuracy")[-1] > 0.5

    def test_summary_holds_what_was_measured(self, whole):
        summary = summary_of(whole)
        assert summary.keys() >= METRICS
        assert not any(key.startswith("test/") for key in summary)
        best = max(line["val/acc1"] for line in read_metrics(whole.metrics) if "val/acc1" in line)
        assert summary["val/acc1"] == best
        assert all(math.isfinite(value) for value in summary.values())
        assert summary["train/steps"] == 32

    def test_report_shows_reconstructions_and_the_distance_over_time(self, whole):
        page = (whole.path / "report.html").read_text()
        assert "Where the network puts patches of val images" in page
        assert len(re.findall(r"\d+ of 9 in their place", page)) >= 12
        assert "<figcaption>Mean grid distance, in patches</figcaption>" in page
        assert "<figcaption>Accuracy of the linear probe</figcaption>" in page
        assert "Result on val" in page
        table = json.loads((whole.path / "artefacts" / "val_summary.json").read_text())
        assert table["rows"][:2] == [["images", 200], ["dropped positions", 200 * 9]]
        assert len(list((whole.path / "artefacts").glob("val_positions-*.png"))) == 12

    def test_evaluation_without_a_split_repeats_its_result(self, whole):
        """In batches of another size and with loader processes besides."""
        summary = summary_of(whole)
        measured = evaluate_run(whole.path, None)
        assert {key: measured[key] for key in METRICS} == {key: summary[key] for key in METRICS}
        assert (measured["val/samples"], measured["val/skipped"]) == (200, 0)
        changed = evaluate_run(whole.path, None, ["data.batch_size=7", "data.workers=2"])
        assert changed == {key: pytest.approx(value, rel=1e-6) for key, value in measured.items()}

    def test_other_splits_have_no_probe_or_are_not_there(self, whole):
        train = evaluate_run(whole.path, "train", ["trainer.limit_test_batches=2"])
        assert "train/acc1" in train
        assert "train/probe_accuracy" not in train
        with pytest.raises(UserError, match=r"--split test: .*there are train, val"):
            evaluate_run(whole.path, "test")

    def test_other_images_are_measured_without_a_probe(self, whole):
        make_image_folder(Path("photos"), classes=2, per_class=3, size=(20, 20))
        overrides = ["data.source=images", "data.root=photos"]
        measured = evaluate_run(whole.path, None, overrides)
        assert measured["val/samples"] == 6
        assert measured.keys() >= METRICS - {"val/probe_accuracy"}


class TestRepetition:
    def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(self, whole, monkeypatch):
        """Stopped within the second epoch of eight steps."""
        with monkeypatch.context() as patch:
            interrupt_at(patch, 11)
            with pytest.raises(KeyboardInterrupt):
                run(run_dir=Path("cut"))
        resumed = resume(Path("cut"), console=QUIET)
        assert figures(resumed) == figures(whole)
        for file in ("last.ckpt", "best.ckpt"):
            ours, theirs = (torch.load(d.path / "checkpoints" / file, weights_only=True) for d in (resumed, whole))
            for part in ("state_dict", "averaged"):
                assert_equal_weights(ours[part], theirs[part])
            assert torch.equal(ours["random_state"][0]["own"]["masks"], theirs["random_state"][0]["own"]["masks"])
        ours, theirs = summary_of(resumed), summary_of(whole)
        assert {key: ours[key] for key in METRICS} == {key: theirs[key] for key in METRICS}

    def test_item_11_the_seed_decides_and_loader_processes_do_not(self, short):
        helped, other = (run(*SHORT, change) for change in ("data.workers=1", "seed=4"))
        assert figures(short) == figures(helped)
        assert_equal_weights(weights(short), weights(helped))
        assert logged(short, "train/loss") != logged(other, "train/loss")

    def test_labels_never_reach_the_network(self):
        photos = make_image_folder(Path("photos"), classes=2, per_class=8, size=(20, 20))
        tables = {
            "true": [path.parent.name for path in photos],
            "shuffled": [f"class_{index % 2}" for index in range(len(photos))],
            "fewer": [path.parent.name if index % 8 else "" for index, path in enumerate(photos)],
            "none": [""] * len(photos),
        }
        found = {}
        for name, labels in tables.items():
            rows = (f"{path},{label}" for path, label in zip(photos, labels, strict=True))
            Path(f"{name}.csv").write_text("\n".join(["path,label", *rows]))
            options = ("data.source=images", f"data.labels={name}.csv", "data.labels_per_class=null")
            found[name] = run(*SHORT, *options, "data.batch_size=4", "trainer.max_epochs=2")
        for directory in found.values():
            assert_equal_weights(weights(directory), weights(found["true"]))
            assert logged(directory, "val/acc1") == logged(found["true"], "val/acc1")
        probed = {name: "val/probe_accuracy" in summary_of(directory) for name, directory in found.items()}
        assert probed == {"true": True, "shuffled": True, "fewer": True, "none": False}


class TestVariants:
    def test_mp3_runs(self):
        directory = run(*SHORT, *SMALL, recipe="studies/droppos/digits_mp3")
        assert summary_of(directory).keys() >= METRICS
        assert re.search(r"\d+ of 16 in their place", (directory.path / "report.html").read_text())

    def test_terms_with_pixels_are_logged_and_sum_up(self):
        directory = run(
            *SHORT, *SMALL, *SMALL_DECODER, "trainer.log_every_n_steps=1", recipe="studies/droppos/digits_pixels"
        )
        losses, positions, pixels = (
            logged(directory, f"train/{name}") for name in ("loss", "position_loss", "pixel_loss")
        )
        assert len(losses) == 3
        expected = [0.05 * position + pixel for position, pixel in zip(positions, pixels, strict=True)]
        assert losses == pytest.approx(expected, rel=1e-5)

    def test_no_dropped_position_is_no_loss_and_the_run_ends(self):
        directory = run(*SHORT, "method.masking.position_mask_ratio=0", "trainer.max_epochs=2")
        assert logged(directory, "train/loss") == [0.0] * 6
        summary = summary_of(directory)
        assert summary["train/best_epoch"] == 1, "of epochs that measure alike, the later one"
        assert all(math.isfinite(value) for value in summary.values())
        assert summary["val/acc1"] == summary["val/hard_ce"] == 0

    def test_bfloat16_comes_near_float32(self, short):
        whole, half = logged(short, "train/loss"), logged(run(*SHORT, "trainer.precision=bf16-mixed"), "train/loss")
        assert half != whole
        assert half == pytest.approx(whole, rel=0.02)

    @pytest.mark.parametrize("probe", ["labels", "no labels"])
    def test_fewer_images_than_a_batch(self, probe):
        make_image_folder(Path("photos"), classes=2, per_class=3, size=(20, 20))
        options = ["data.source=images", "data.root=photos", "data.labels_per_class=null", "trainer.max_epochs=2"]
        directory = run(*options, *(["data.probe=photos"] if probe == "labels" else []))
        summary = summary_of(directory)
        assert (summary["train/steps"], summary["train/samples"]) == (2, 2 * 5)
        assert ("val/probe_accuracy" in summary) == (probe == "labels")


class TestDivergence:
    def test_stops_the_run_with_one_message(self):
        with pytest.raises(UserError, match="the training loss is no longer finite"):
            run(*SHORT, "optim.lr=1e30", "optim.warmup_epochs=0")

    def test_goes_on_where_it_is_told_to(self):
        directory = run(*SHORT, "optim.lr=1e30", "optim.warmup_epochs=0", "optim.ema=null", "run.on_nan=continue")
        summary = summary_of(directory)
        assert summary["train/steps"] == 3
        assert summary["val/hard_ce"] is None
        assert summary["val/probe_accuracy"] is None


TWO = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")
STILL = (EVERY_EPOCH, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "optim.lr=1e-12", "optim.ema=null")
"""So slow that the network stays as it was: what is left to differ is how it is measured."""


def _fit(rank: int, overrides: tuple[str, ...]) -> None:
    run(*overrides, run_dir=Path("two"))


def test_two_processes_train_and_measure_as_one(two_processes: Callable[..., None]):
    """Without a search for unused parameters; every recipe's own are in ``test_every_recipe.py``."""
    one, two = run(*STILL, "data.batch_size=16", run_dir=Path("one")), RunDirectory(Path("two"))
    two_processes(_fit, (*STILL, *TWO, "data.batch_size=16"))
    ours, theirs = (summary_of(directory) for directory in (one, two))
    assert {key: theirs[key] for key in METRICS} == {key: pytest.approx(ours[key], rel=1e-5) for key in METRICS}
    assert theirs["train/samples"] == 2 * ours["train/samples"] == 64
    tables = [json.loads((directory.path / "artefacts/val_summary.json").read_text()) for directory in (one, two)]
    assert tables[0]["rows"][:2] == tables[1]["rows"][:2] == [["images", 200], ["dropped positions", 1800]]
    pictures = [sorted((directory.path / "artefacts").glob("val_positions-*.png")) for directory in (one, two)]
    assert len(pictures[0]) == 12
    assert all(mine.read_bytes() == other.read_bytes() for mine, other in zip(*pictures, strict=True))
    states = torch.load(two.path / "checkpoints" / "last.ckpt", weights_only=True)["random_state"]
    assert not torch.equal(*(state["own"]["masks"] for state in states)), "each process draws masks of its own"
