"""Runs on bags, whole: what they leave, repeat, resume and measure, and what bad bags do to them."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit, resume
from vision_train.run.phase import prepare, scan
from vision_train.tasks.bags.task import BagTask

TINY = """
description: A tiny network on a few bags of digits, with everything random that a run on bags can hold.
extends: studies/acmil/digit_bags_official
seed: 3
data: {labels_per_class: 6, batch_size: 2}
model: {args: {width: 8, attention_width: 8, branches: 3}}
method: {hiding: {warmup_epochs: 0.5}}
optim: {ema: {decay: 0.9}}
trainer: {max_epochs: 3, check_val_every_n_epoch: 1, log_every_n_steps: 1}
"""
ON_DISK = """
description: The same network on bags in files.
extends: tiny.yaml
data: {source: bags, root: bags, labels: labels.csv, labels_per_class: null}
trainer: {max_epochs: 1}
"""
QUIET = Console(quiet=True)
MEASURED = {"loss", "auroc", "f1", "f1_and_auroc", "accuracy", "attention_entropy", "attention_top10"}


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipes, in a working directory that is a fresh one."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    Path("disk.yaml").write_text(ON_DISK)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run of the tiny recipe, which no test changes."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(TINY)
    return run(recipe=str(folder / "tiny.yaml"), run_dir=folder / "run")


def run(
    *overrides: str, recipe: str = "tiny.yaml", run_dir: Path | None = None, console: Console = QUIET
) -> RunDirectory:
    return fit(load_recipe(recipe, overrides), run_dir=run_dir, command=[], console=console)


def summary_of(directory: RunDirectory) -> dict[str, float]:
    return json.loads(directory.summary.read_text())


def figures(directory: RunDirectory) -> list[dict]:
    """Everything in the log that does not depend on the clock."""
    timed = ("time", "train/samples_per_second", "train/data_wait")
    return [{key: value for key, value in line.items() if key not in timed} for line in read_metrics(directory.metrics)]


def write_bags(folder: str, table: str, count: int = 24, encoder: str = "uni") -> None:
    """Bags of two classes that differ in the sign of their features, no two alike, and their labels."""
    Path(folder).mkdir()
    for number in range(count):
        features = torch.full((3 + number % 4, 6), (1.0 if number % 2 else -1.0) + number / 1000)
        save_file({"features": features}, Path(folder, f"{number:03d}.safetensors"), {"encoder": encoder})
    rows = [f"{number:03d},{number % 2}" for number in range(count)]
    Path(table).write_text("\n".join(["slide_id,label", *rows]))


def spoil(folder: str) -> dict[str, str]:
    """Let bags be missing, empty, cut short and not finite; the reasons."""
    for number in (3, 4, 5):
        Path(folder, f"{number:03d}.safetensors").unlink()
    np.save(Path(folder, "004.npy"), np.ones((0, 6), np.float32))
    with h5py.File(Path(folder, "005.h5"), "w") as file:
        file["features"] = np.ones((500, 6), np.float32)
    content = Path(folder, "005.h5").read_bytes()
    Path(folder, "005.h5").write_bytes(content[: len(content) // 2])
    return {"003": f"no features in {Path(folder).absolute()}", "004": "empty: it has no", "005": "truncated: it is"}


class TestFinishedRun:
    def test_leaves_what_was_measured(self, whole):
        summary = summary_of(whole)
        assert summary.keys() >= {f"{split}/{name}" for split in ("val", "test") for name in MEASURED}
        assert (summary["train/steps"], summary["train/samples"]) == (3 * 6, 3 * 12)
        terms = {"train/bag_loss", "train/branch_loss", "train/diversity_loss"}
        assert any(line.keys() >= terms for line in read_metrics(whole.metrics))
        names = {path.name for path in (whole.path / "artefacts").iterdir()}
        assert names >= {
            "test_summary.json",
            "test_items.json",
            "test_attention.json",
            "test_attention_cumulative.json",
        }

    def test_evaluation_repeats_its_result_in_batches_of_any_size(self, whole):
        summary = summary_of(whole)
        for size in (1, 7):
            found = evaluate_run(whole.path, "test", [f"data.batch_size={size}"])
            assert found["test/samples"] == 200
            for name in MEASURED:
                assert found[f"test/{name}"] == pytest.approx(summary[f"test/{name}"], rel=1e-5)

    def test_other_bags_are_measured_whole_and_those_of_another_encoder_refused(self, whole):
        write_bags("bags", "labels.csv")
        others = ["data.source=bags", "data.root=bags", "data.labels=labels.csv", "data.labels_per_class=null"]
        with pytest.raises(UserError, match="the bags have 6 features an instance, but the network learned from 64"):
            evaluate_run(whole.path, "test", others)
        assert evaluate_run(whole.path, "test", ["data.variant=patterns"])["test/samples"] == 200


def test_a_head_that_is_kept_for_classes_of_other_names_is_said(whole: RunDirectory):
    start = f"model.checkpoint={whole.path}"
    renamed = prepare(scan(load_recipe("tiny.yaml", [start, 'data.label_map={"0": clear, "1": marked}'])))
    (note,) = [note for note in renamed.data.notes if "head is kept" in note]
    assert note.endswith("of other names, and its head is kept: clear with that of 0, marked with that of 1")
    assert not any("head is kept" in note for note in prepare(scan(load_recipe("tiny.yaml", [start]))).data.notes)


class TestRepetition:
    def test_item_3_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(self, whole, monkeypatch):
        """Stopped within the second epoch of six steps, after hiding has begun."""
        original, calls = BagTask.training_step, iter(range(100))

        def training_step(self, batch, batch_idx):
            if next(calls) == 9:
                raise KeyboardInterrupt
            return original(self, batch, batch_idx)

        with monkeypatch.context() as patch:
            patch.setattr(BagTask, "training_step", training_step)
            with pytest.raises(KeyboardInterrupt):
                run(run_dir=Path("cut"))
        resumed = resume(Path("cut"), console=QUIET)
        assert figures(resumed) == figures(whole)
        for file in ("last.ckpt", "best.ckpt"):
            ours, theirs = (torch.load(d.path / "checkpoints" / file, weights_only=True) for d in (resumed, whole))
            for part in ("state_dict", "averaged"):
                assert all(torch.equal(weight, theirs[part][name]) for name, weight in ours[part].items())
            assert torch.equal(ours["random_state"][0]["own"]["hiding"], theirs["random_state"][0]["own"]["hiding"])
        old, new = summary_of(whole), summary_of(resumed)
        assert {name: new[f"test/{name}"] for name in MEASURED} == {name: old[f"test/{name}"] for name in MEASURED}


class TestBadBags:
    def test_stop_the_run_with_all_of_their_names(self):
        write_bags("bags", "labels.csv")
        reasons = spoil("bags")
        with pytest.raises(UserError) as refused:
            run(recipe="disk.yaml")
        assert str(refused.value).startswith("3 bag(s) cannot be used. ")
        assert all(f"{bag_id}: {reason}" in str(refused.value) for bag_id, reason in reasons.items())
        assert not Path("runs").exists()

    def test_that_are_found_when_they_are_read_stop_it_too(self):
        write_bags("bags", "labels.csv")
        save_file({"features": torch.full((4, 6), torch.nan)}, "bags/002.safetensors")
        with pytest.raises(UserError, match=r"002: NaN or infinite values in 4 of 4 instances.*on_bad=skip"):
            run(recipe="disk.yaml")

    def test_are_skipped_and_counted_at_the_end_where_that_is_asked_for(self):
        write_bags("bags", "labels.csv")
        reasons = spoil("bags") | {"002": "NaN or infinite values in 4 of 4 instances"}
        save_file({"features": torch.full((4, 6), torch.nan)}, "bags/002.safetensors")
        console = Console(file=io.StringIO(), width=300)
        directory = run("data.on_bad=skip", recipe="disk.yaml", console=console)
        output = console.file.getvalue()
        assert "note: skipped 003: no features in" in output
        assert "\nskipped 4 unreadable bags; log.txt names all:\n  002: NaN or infinite" in output
        log = (directory.path / "log.txt").read_text()
        assert all(f"skipped {bag_id}: {reason}" in log for bag_id, reason in reasons.items())
        assert summary_of(directory)["train/steps"] > 0
        recipe = load_recipe(str(directory.recipe))
        assert (recipe.data.feature_width, recipe.data.encoder) == (6, "uni")


def test_a_run_that_learnt_nothing_says_so_and_how_to_mend_it():
    write_bags("bags", "labels.csv")
    console = Console(file=io.StringIO(), width=1000)
    directory = run("optim.lr=1e-9", "optim.ema=null", recipe="disk.yaml", console=console)
    text = "little was learnt. Raise trainer.max_epochs, or hide less: method.hiding hides up to 6 of the instances"
    assert text in console.file.getvalue()
    assert text in (directory.path / "report.html").read_text()
    write_bags("others", "others.csv", encoder="conch")
    with pytest.raises(UserError, match=r"those of the encoder conch, but .* learned from those of uni"):
        evaluate_run(directory.path, "test", ["data.root=others", "data.labels=others.csv"])


@pytest.mark.slow
def test_item_10_acmil_as_published_collapses_on_rare_bags_and_says_so_where_the_recipe_does_not(tmp_path: Path):
    heard = {}
    for name in ("studies/acmil/digit_bags_official", "acmil/digit_bags"):
        console = Console(file=io.StringIO(), width=1000)
        directory = fit(load_recipe(name, ["seed=1"]), run_dir=tmp_path / name, command=[], console=console)
        heard[name] = (summary_of(directory)["test/auroc"], "little was learnt" in console.file.getvalue())
    collapsed, safe = heard.values()
    assert collapsed[0] <= 0.7
    assert safe[0] >= 0.9
    assert (collapsed[1], safe[1]) == (True, False)


TWO = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu", "data.batch_size=1")
FEW = ("method.hiding.drop_ratio=0", *(f"trainer.{key}=10" for key in ("limit_val_batches", "limit_test_batches")))
"""Draws that hide nothing, so that two half batches are a whole one."""


def _in_two(rank: int) -> None:
    run(*TWO, *FEW, run_dir=Path("two"))


def test_two_processes_train_and_measure_as_one_and_draw_apart(two_processes: Callable[..., None]):
    one = run(*FEW)
    two_processes(_in_two)
    two = RunDirectory(Path("two"))
    ours, theirs = (summary_of(directory) for directory in (one, two))
    for split in ("val", "test"):
        for name in MEASURED:
            assert theirs[f"{split}/{name}"] == pytest.approx(ours[f"{split}/{name}"], rel=1e-3), name
    assert ours["train/samples"] == theirs["train/samples"] == 3 * 12
    items = json.loads((two.path / "artefacts" / "test_items.json").read_text())
    assert len(set(items["ids"])) == len(items["ids"]) == 20
    states = torch.load("two/checkpoints/last.ckpt", weights_only=True)["random_state"]
    assert len(states) == 2
    assert not torch.equal(*(state["own"]["hiding"] for state in states)), "each process hides by draws of its own"
