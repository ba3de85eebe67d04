import html
import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.checkpoints import read_weights
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.evaluate import evaluate_run
from vision_train.run.fit import fit, resume
from vision_train.run.sample_lists import SAMPLES_FILE, read_samples
from vision_train.tasks.classification.task import ClassificationTask

SUMMARY_KEYS = {
    *("test/accuracy", "test/accuracy_top5", "test/calibration_error", "val/accuracy"),
    *("train/samples_per_second", "train/seconds"),
    *("run/steps", "run/samples", "run/seconds"),
}


def run(recipe: str, *overrides: str, run_dir: Path | None = None) -> RunDirectory:
    return fit(load_recipe(recipe, overrides), run_dir=run_dir, command=[], console=Console(quiet=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> RunDirectory:
    """A finished run of the tiny recipe, numbered by itself, which no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        Path("tiny.yaml").write_text(tiny_text)
        return run("tiny.yaml")


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Let a training step fail, as Ctrl-C or a killed process would make it."""
    original = ClassificationTask.training_step
    calls = iter(range(10**6))

    def training_step(self, batch, batch_idx):
        if next(calls) == step:
            raise error
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)


def figures(directory: RunDirectory) -> list[dict]:
    """Everything in the log that does not depend on the clock."""
    timed = ("time", "train/samples_per_second", "train/data_wait")
    return [{key: value for key, value in line.items() if key not in timed} for line in read_metrics(directory.metrics)]


def test_a_run_leaves_every_file_that_the_design_names(whole):
    directory = whole
    assert directory.path.parts[-3:] == ("runs", "tiny", "0")
    names = {entry.name for entry in directory.path.iterdir()}
    assert names >= {
        *("recipe.yaml", "environment.json", "metrics.jsonl", "summary.json", "artefacts", "checkpoints"),
        *("report.html", "log.txt", "phases", "classes.json", "metrics.json", "weights.safetensors"),
    }
    summary = json.loads(directory.summary.read_text())
    assert summary.keys() >= SUMMARY_KEYS
    assert all(isinstance(value, int | float) for value in summary.values())
    assert {"last.ckpt", "best.ckpt"} == {entry.name for entry in (directory.path / "checkpoints").iterdir()}
    assert not list(directory.path.rglob("*.tmp"))


def test_what_a_run_warns_of_before_its_first_step_stands_in_its_report(tiny_text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(tiny_text)
    said = io.StringIO()
    recipe = load_recipe("tiny.yaml", ["trainer.max_epochs=1", "data.batch_size=16", "optim.lr_reference_batch=512"])
    directory = fit(recipe, run_dir=None, command=[], console=Console(file=said, width=1000))
    told = [line.removeprefix("warning: ") for line in said.getvalue().splitlines() if line.startswith("warning: ")]
    assert [text for text in told if "optimiser steps in all are few" in text]
    assert [text for text in told if "the warm-up takes" in text]
    assert [text for text in told if "becomes" in text]
    assert json.loads((directory.phase("fit") / "phase.json").read_text())["warnings"] == told
    page = html.unescape((directory.path / "report.html").read_text())
    assert all(f"Warning: {text}." in page for text in told)


def test_runs_are_numbered_upwards(tiny):
    options = ("trainer.max_epochs=1", "trainer.limit_train_batches=1")
    assert [run(tiny, *options).path.name for _ in range(2)] == ["0", "1"]


@pytest.mark.usefixtures("tiny")
def test_running_the_resolved_recipe_again_repeats_the_run(whole):
    assert figures(run(str(whole.recipe))) == figures(whole)


@pytest.mark.parametrize("step", [4, 6])
def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tiny, whole, monkeypatch, step):
    """Stopped within an epoch of three steps and between two: losses, rates, the average and its validation agree."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            run(tiny, run_dir=Path("cut"))
    assert Path("cut/checkpoints/last.ckpt").exists()
    assert not Path("cut/summary.json").exists()
    resumed = resume(Path("cut"), console=Console(quiet=True))

    assert figures(resumed) == figures(whole)
    for file in ("last.ckpt", "best.ckpt"):
        ours, theirs = (torch.load(d.path / "checkpoints" / file, weights_only=True) for d in (resumed, whole))
        for part in ("state_dict", "averaged"):
            assert ours[part].keys() == theirs[part].keys()
            assert all(torch.equal(ours[part][name], theirs[part][name]) for name in ours[part])
        assert torch.equal(ours["random_state"][0]["torch"], theirs["random_state"][0]["torch"])
    old, new = (json.loads(d.summary.read_text()) for d in (whole, resumed))
    for key in ("test/loss", "val/accuracy", "train/best_epoch", "train/samples", "train/steps"):
        assert old[key] == new[key]


def test_a_finished_run_is_not_resumed(tiny, quiet):
    directory = run(tiny, "trainer.max_epochs=1")
    with pytest.raises(UserError, match="is finished"):
        resume(directory.path, console=quiet)


def test_a_run_killed_before_its_first_checkpoint_starts_again(tiny, whole, monkeypatch, quiet):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(tiny, run_dir=Path("cut"))
    assert figures(resume(Path("cut"), console=quiet)) == figures(whole)


def test_validation_and_the_result_use_the_averaged_weights(whole):
    directory = whole
    best = torch.load(directory.best, weights_only=True)
    weights = read_weights(directory.path).state
    assert all(torch.equal(weights[name], value) for name, value in best["averaged"].items())
    assert any(not torch.equal(value, best["state_dict"][f"network.{name}"]) for name, value in weights.items())
    summary = json.loads(directory.summary.read_text())
    assert evaluate_run(directory.path, "val")["val/accuracy"] == summary["val/accuracy"]
    assert evaluate_run(directory.path, "test")["test/loss"] == pytest.approx(summary["test/loss"], abs=1e-12)


def test_best_is_the_epoch_with_the_highest_metric(whole):
    directory = whole
    lines = [line for line in read_metrics(directory.metrics) if "val/accuracy" in line]
    best = max(lines, key=lambda line: (line["val/accuracy"], -line["val/loss"]))
    summary = json.loads(directory.summary.read_text())
    assert summary["val/accuracy"] == best["val/accuracy"]
    assert torch.load(directory.best, weights_only=True)["epoch"] == best["epoch"] == summary["train/best_epoch"]


def test_two_phases_start_the_second_from_the_first(tiny):
    Path("first.yaml").write_text(
        f"extends: {tiny}\nrun: {{select: {{metric: val/loss, mode: min}}}}\ntrainer: {{max_epochs: 2}}\n"
    )
    directory = run(tiny, "run.pretrain=first.yaml", "trainer.max_epochs=1", "seed=5")
    phases = {line["phase"] for line in read_metrics(directory.metrics)}
    assert phases == {"pretrain", "fit"}
    assert load_recipe(str(directory.phase("pretrain") / "recipe.yaml")).seed == 5
    summary = json.loads(directory.summary.read_text())
    assert summary["checkpoint/matched_share"] == 1.0
    assert summary["train/epochs"] == 1
    assert (summary["train/steps"], summary["run/steps"]) == (3, 9)
    assert summary["run/samples"] == 3 * summary["train/samples"]
    assert summary["run/seconds"] > summary["train/seconds"]
    assert "best.ckpt" in load_recipe(str(directory.phase("fit") / "recipe.yaml")).model.checkpoint
    # The run's own recipe still says what was asked for, so that running it again pre-trains again.
    assert load_recipe(str(directory.recipe)).model.checkpoint is None


def test_a_run_cut_short_in_its_second_phase_resumes_there(tiny, monkeypatch, quiet):
    Path("first.yaml").write_text(f"extends: {tiny}\ntrainer: {{max_epochs: 1}}\n")
    whole = run(tiny, "run.pretrain=first.yaml", run_dir=Path("whole"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 10)
        with pytest.raises(KeyboardInterrupt):
            run(tiny, "run.pretrain=first.yaml", run_dir=Path("cut"))
    assert figures(resume(Path("cut"), console=quiet)) == figures(whole)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tiny, monkeypatch):
    original = ClassificationTask.training_step

    def training_step(self, batch, batch_idx):
        loss = original(self, batch, batch_idx)
        return loss * float("nan") if self.global_step == 6 else loss

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)
    with pytest.raises(UserError, match="no longer finite"):
        run(tiny, run_dir=Path("nan"))
    assert Path("nan/checkpoints/last.ckpt").exists()


def test_an_unknown_headline_metric_names_those_there_are(tiny):
    with pytest.raises(UserError, match=r"val/acuracy.*val/accuracy"):
        run(tiny, "run.select.metric=val/acuracy")


def test_nothing_is_written_when_the_input_is_wrong(tiny):
    before = sorted(Path.cwd().rglob("*"))
    for override in ("model.name=vit_smal_patch16_224", "model.checkpoint=nowhere.pth", "trainer.accelerator=gpu"):
        with pytest.raises(UserError):
            run(tiny, override)
    assert sorted(Path.cwd().rglob("*")) == before


def test_an_existing_run_directory_is_refused(tiny):
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="taken: exists and is not empty"):
        run(tiny, run_dir=Path("taken"))


def test_accumulated_batches_make_one_step(tiny):
    directory = run(tiny, "trainer.accumulate_grad_batches=2", "trainer.max_epochs=2")
    assert json.loads(directory.summary.read_text())["train/steps"] == 2 * 2


def test_bfloat16_comes_near_float32(tiny):
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        directory = run(tiny, f"trainer.precision={precision}", "trainer.gradient_clip_val=1.0")
        losses.append([line["train/loss"] for line in read_metrics(directory.metrics) if "train/loss" in line])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_float16_without_a_gpu_is_refused(tiny):
    with pytest.raises(UserError, match=r"trainer\.precision=16-mixed.*bf16-mixed"):
        run(tiny, "trainer.precision=16-mixed")


def test_a_run_without_validation_keeps_its_latest_epoch(tiny):
    directory = run(tiny, "trainer.max_steps=2")
    assert json.loads(directory.summary.read_text())["train/steps"] == 2
    assert directory.best.exists()


def test_a_starting_checkpoint_that_is_gone_does_not_stop_a_resumption(tiny, monkeypatch, quiet):
    start = run(tiny, "trainer.max_epochs=1")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            run(tiny, f"model.checkpoint={start.path}", run_dir=Path("cut"))
    start.path.rename("moved")
    summary = json.loads(resume(Path("cut"), console=quiet).summary.read_text())
    assert summary["checkpoint/matched_share"] == 1.0


def test_a_pretraining_recipe_edited_since_changes_nothing_on_resumption(tiny, monkeypatch, quiet):
    first = Path("first.yaml")
    first.write_text(f"extends: {tiny}\ntrainer: {{max_epochs: 2}}\n")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            run(tiny, "run.pretrain=first.yaml", "trainer.max_epochs=1", run_dir=Path("cut"))
    first.unlink()
    directory = resume(Path("cut"), console=quiet)
    assert max(line["epoch"] for line in read_metrics(directory.metrics) if line["phase"] == "pretrain") == 1


def test_ties_in_accuracy_go_to_the_lower_loss(tiny, monkeypatch):
    from vision_train.tasks.classification import scores

    losses = iter([3.0, 1.0, 2.0, 2.5])
    original = scores.metrics
    monkeypatch.setattr(scores, "metrics", lambda s: original(s) | {"accuracy": 0.5, "loss": next(losses, 9.0)})
    assert json.loads(run(tiny).summary.read_text())["train/best_epoch"] == 1


def test_a_warm_up_longer_than_the_training_is_pointed_out(tiny):
    console = Console(file=io.StringIO(), width=300)
    fit(load_recipe(tiny, ["trainer.max_epochs=1"]), run_dir=None, command=[], console=console)
    assert "ends before the full learning rate" in console.file.getvalue()


def test_a_compiled_network_keeps_plain_names_in_checkpoints_and_average(tiny, monkeypatch):
    """The compiler itself is torch's; a backend that only traces shows whether names and the average survive it."""
    compile_network = torch.nn.Module.compile
    traced = []

    def compile_by_tracing(self):
        traced.append(self)
        compile_network(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_by_tracing)
    compiled = run(tiny, "model.compile=true", "trainer.max_epochs=2")
    assert traced
    monkeypatch.undo()
    monkeypatch.chdir(compiled.path.parents[2])
    assert figures(compiled) == figures(run(tiny, "trainer.max_epochs=2"))
    names = read_weights(compiled.path).state.keys()
    assert "pos_embed" in names
    assert not any("_orig_mod" in name for name in names)


def test_a_run_from_random_weights_says_so_in_its_summary(tiny):
    summary = json.loads(run(tiny, "trainer.max_epochs=1").summary.read_text())
    assert summary["checkpoint/matched_share"] == 0.0


def test_a_run_killed_while_its_report_is_written_is_not_finished(tiny, monkeypatch, quiet):
    def killed(*_: object) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vision_train.run.conclusion.write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tiny, "trainer.max_epochs=1", run_dir=Path("cut"))
    assert not Path("cut/summary.json").exists()
    directory = resume(Path("cut"), console=quiet)
    assert json.loads(directory.summary.read_text())["train/steps"] > 0
    assert "Val accuracy" in (directory.path / "report.html").read_text()


def test_runs_of_folds_are_tested_on_every_sample_once(tiny):
    tested, seen = [], set()
    for number in (1, 2):
        folder = Path(f"fold{number}")
        fold = run(tiny, f"data.fold={{number: {number}, of: 2}}", "trainer.max_epochs=1", run_dir=folder)
        lists = read_samples(fold.phase("fit") / SAMPLES_FILE)
        names = {split: {sample.id for sample in samples} for split, samples in lists.items()}
        assert not names["test"] & (names["train"] | names["val"])
        tested += [sample.id for sample in lists["test"]]
        seen |= set().union(*names.values())
    assert len(tested) == len({*tested})
    assert {*tested} == seen
