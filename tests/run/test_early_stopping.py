"""Early stopping, the epochs that are kept, and callbacks of other packages."""

import io
import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from rich.console import Console

from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import installed, load_recipe
from vision_train.run import early_stopping, phase
from vision_train.run.callbacks import installed_callbacks
from vision_train.run.fit import fit, resume
from vision_train.tasks.classification.task import ClassificationTask

QUIET = Console(quiet=True)
# No gain is as large as this, so training ends with the third epoch.
EARLY = ("run.early_stopping={patience: 2, min_delta: 0.9}", "trainer.max_epochs=9")


def train(recipe: str, path: str, *overrides: str, console: Console = QUIET) -> Path:
    return fit(load_recipe(recipe, overrides), run_dir=Path(path), command=[], console=console).path


def validations(run: Path) -> list[dict]:
    return [line for line in read_metrics(run / "metrics.jsonl") if "val/accuracy" in line]


def test_training_ends_early_and_the_run_says_when_and_why(tiny):
    said = io.StringIO()
    run = train(tiny, "run", *EARLY, console=Console(file=said, width=1000))
    assert len(validations(run)) == 3
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["train/epochs"], summary["train/planned_epochs"], summary["train/steps"]) == (3, 9, 9)
    reason = json.loads((run / "phases" / "fit" / "phase.json").read_text())["stopped_early"]
    assert "after epoch 3 of 9: val accuracy has not improved by more than 90.0 % in 2 validations" in reason
    assert f"best epoch is {summary['train/best_epoch'] + 1}" in reason
    assert "`cosine` had not ended" in reason
    assert reason in said.getvalue()
    assert "run.early_stopping may end training before" in said.getvalue()
    for file in ("log.txt", "report.html"):
        assert "run.early_stopping).".replace("(", "") in (run / file).read_text().replace("(", "")


def test_a_run_that_was_cut_short_waits_as_long_as_it_would_have(tiny, cut_short):
    whole = train(tiny, "whole", *EARLY)
    with cut_short(ClassificationTask, 7):  # within the third epoch: the wait stands in the checkpoint of the second
        train(tiny, "cut", *EARLY)
    again = resume(Path("cut"), console=QUIET).path
    assert [line["val/loss"] for line in validations(again)] == [line["val/loss"] for line in validations(whole)]


def test_a_run_that_was_cut_short_after_it_had_stopped_takes_no_further_epoch(tiny, monkeypatch):
    def stop(network):
        raise RuntimeError("before the test")

    with monkeypatch.context() as patch:
        patch.setattr(phase, "remove_adapters", stop)
        with pytest.raises(RuntimeError, match="before the test"):
            train(tiny, "run", *EARLY)
    run = resume(Path("run"), console=QUIET).path
    assert json.loads((run / "summary.json").read_text())["train/epochs"] == 3
    assert "after epoch 3 of 9" in json.loads((run / "phases" / "fit" / "phase.json").read_text())["stopped_early"]


def test_the_best_epochs_are_kept(tiny, cut_short):
    with cut_short(ClassificationTask, 10):
        train(tiny, "run", "run.keep=2", "trainer.max_epochs=5")
    (Path("run") / "phases" / "fit" / "checkpoints" / "epoch-99.ckpt").write_bytes(b"of a process that was killed")
    run = resume(Path("run"), console=QUIET).path
    found = validations(run)
    best = sorted(found, key=lambda line: (-line["val/accuracy"], line["val/loss"]))[:2]
    for folder in (run / "checkpoints", run / "phases" / "fit" / "checkpoints"):
        assert {file.name for file in folder.glob("epoch-*.ckpt")} == {
            f"epoch-{line['epoch'] + 1}.ckpt" for line in best
        }
    for line in best:
        kept = torch.load(run / "checkpoints" / f"epoch-{line['epoch'] + 1}.ckpt", weights_only=True)
        assert kept["epoch"] == line["epoch"]
    first = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert first["epoch"] == best[0]["epoch"]


class Count(Callback):
    """A callback of another package, with a state."""

    steps = 0

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.steps += 1
        pl_module.log("train/counted", float(self.steps))

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state_dict):
        self.steps = state_dict["steps"]


class Offered:
    """An entry point that finds its callback in this test."""

    def __init__(self, name: str, kind: object) -> None:
        self.name, self.value, self.kind = name, f"package:{name}", kind

    def load(self) -> object:
        return self.kind


@pytest.fixture
def offer(monkeypatch):
    class Points(list):
        names = frozenset({"count", "number"})

    points = Points([Offered("count", Count), Offered("number", 3)])
    monkeypatch.setattr(installed, "entry_points", lambda group: points)


@pytest.mark.usefixtures("offer")
def test_a_callback_of_another_package_takes_part_and_goes_on(tiny, cut_short):
    overrides = ("trainer.callbacks=[count]", "trainer.max_epochs=2")
    with cut_short(ClassificationTask, 4):
        train(tiny, "run", *overrides)
    run = resume(Path("run"), console=QUIET).path
    lines = [line["train/counted"] for line in read_metrics(run / "metrics.jsonl") if "train/counted" in line]
    assert lines[-1] == 6


@pytest.mark.usefixtures("offer")
def test_what_is_no_callback_is_refused(tiny):
    with pytest.raises(UserError, match=r"trainer\.callbacks=number: package:number is no Callback"):
        installed_callbacks(load_recipe(tiny, ["trainer.callbacks=[number]"]))


def test_a_callback_that_cannot_be_imported_is_refused(tiny, monkeypatch):
    point = EntryPoint("gone", "vision_train.nowhere:Gone", installed.CALLBACKS)
    monkeypatch.setattr("vision_train.run.callbacks.offered_callbacks", lambda recipe: [point])
    with pytest.raises(UserError, match=r"trainer\.callbacks=gone: .* cannot be imported .*uninstall"):
        installed_callbacks(load_recipe(tiny))


def test_a_metric_that_is_not_finite_is_no_improvement():
    recipe = load_recipe("quickstart", ["run.early_stopping.patience=2"])
    callback = early_stopping.StopEarly(recipe.run.select, recipe.run.early_stopping)
    assert callback._evaluate_stopping_criteria(torch.tensor(0.5))[0] is False
    assert callback._evaluate_stopping_criteria(torch.tensor(float("nan")))[0] is False
    assert callback._evaluate_stopping_criteria(torch.tensor(float("nan")))[0] is True
