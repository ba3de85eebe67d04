"""Two gloo processes do what one does with twice the batch."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from vision_train.metrics_log import read_metrics
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.fit import fit, resume
from vision_train.run.plan import FinishedPhase, Phase
from vision_train.tasks.classification.task import ClassificationTask

TWO = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")
# Nothing that each process draws for itself, so that the sum of two half batches is the whole batch.
SAME = (
    "augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}",
    *("model.args.drop_path_rate=0", "model.args.proj_drop_rate=0", "trainer.max_epochs=3"),
)


def _fit(rank: int, recipe: str, overrides: tuple[str, ...], run_dir: Path) -> None:
    fit(load_recipe(recipe, overrides), run_dir=run_dir, command=[], console=Console(quiet=True))


def validation(path: Path) -> list[dict]:
    return [line for line in read_metrics(path / "metrics.jsonl") if "val/loss" in line]


def test_two_processes_train_and_measure_as_one(tiny, two_processes):
    one, two = Path("one").absolute(), Path("two").absolute()
    _fit(0, tiny, (*SAME, "data.batch_size=32"), one)
    two_processes(_fit, tiny, (*SAME, *TWO, "data.batch_size=16"), two)
    for mine, theirs in zip(validation(one), validation(two), strict=True):
        assert mine["val/accuracy"] == pytest.approx(theirs["val/accuracy"], abs=0.011)  # two of 200 images
        assert mine["val/loss"] == pytest.approx(theirs["val/loss"], rel=1e-3)
    summary = json.loads((two / "summary.json").read_text())
    # 300 test images, shared by two processes, each counted once.
    table = json.loads((two / "artefacts" / "test_summary.json").read_text())
    assert dict(table["rows"])["images"] == 300
    assert summary["train/samples"] == json.loads((one / "summary.json").read_text())["train/samples"]
    assert summary["train/steps"] == 9


def _fit_and_keep(rank: int, recipe: str, overrides: tuple[str, ...], run_dir: Path) -> None:
    """Fit, and keep the weights that this process ends with."""
    original = ClassificationTask.on_train_end

    def on_train_end(self: ClassificationTask) -> None:
        original(self)
        torch.save(self.network.state_dict(), f"{run_dir}-{rank}.pth")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassificationTask, "on_train_end", on_train_end)
        _fit(rank, recipe, overrides, run_dir)


def test_two_processes_train_the_same_finite_adapters(tiny, two_processes):
    _fit(0, tiny, ("trainer.max_epochs=1", "trainer.limit_train_batches=1"), Path("first"))
    adapted = Path("adapted").absolute()
    lora = ("model.lora.rank=2", "model.checkpoint=first", "trainer.max_epochs=1", "data.batch_size=16")
    two_processes(_fit_and_keep, tiny, (*lora, *TWO), adapted)
    ours, theirs = (torch.load(f"{adapted}-{rank}.pth", weights_only=True) for rank in (0, 1))
    adapters = [name for name in ours if "lora_" in name]
    assert len(adapters) == 2 * 8  # two for each of four layers of two blocks
    assert all(ours[name].isfinite().all() and ours[name].any() for name in adapters)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
    assert json.loads((adapted / "summary.json").read_text())["train/steps"] == 3


def test_two_processes_reach_one_verdict(tiny, two_processes):
    """On twelve arms of two steps: what is found matters little, that it is found once and of all test images does."""
    path = Path("judged").absolute()
    pool = ("data.unlabelled=rest", "semi={method: freematch, burn_in: 0.5, verdict: {seeds: 3}}")
    short = ("trainer.max_epochs=null", "trainer.max_steps=2", "data.epoch_batches=2", "optim.warmup_epochs=0")
    splits = ("data.splits={val: 0.02, test: 0.02}", "model.args.depth=1", "data.batch_size=4")
    two_processes(_fit, tiny, (*TWO, *pool, *short, *splits), path)
    summary = json.loads((path / "summary.json").read_text())
    assert isinstance(summary["verdict/helped"], bool)
    assert summary["run/steps"] == 2 * (1 + 3 + 3 * 4 - 1)
    arms = json.loads((path / "artefacts" / "verdict_seeds.json").read_text())["values"]
    assert [len(of_arm) for of_arm in arms.values()] == [3, 3, 3, 3]
    difference = [
        ours - theirs for ours, theirs in zip(arms["freematch"], arms[summary["verdict/control"]], strict=True)
    ]
    assert summary["verdict/difference"] == pytest.approx(sum(difference) / 3)
    items = [json.loads(file.read_text())["ids"] for file in path.rglob("*items*.json")]
    assert items
    assert all(len(set(ids)) == len(ids) == len(items[0]) for ids in items)
    assert not list(path.glob("phases/*.*/checkpoints"))


@contextmanager
def _fails_at(step: int) -> Iterator[None]:
    """Let training fail at a step, counted from 0 over all phases.

    It fails after the network's forward pass: where an exception meets DDP's broadcast of buffers, torch may wait for
    itself in the destructor of the process group.
    """
    original, calls = ClassificationTask.training_step, iter(range(100))

    def training_step(self, batch, batch_idx):
        loss = original(self, batch, batch_idx)
        if next(calls) == step:
            raise RuntimeError("cut short")
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", training_step)
        with pytest.raises(RuntimeError, match="cut short"):
            yield


def _meet_at_another_port() -> None:
    """The other process may not have left the one before."""
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)


def _whole_and_cut_short(rank: int, recipe: str, overrides: tuple[str, ...], whole: Path, cut: Path) -> None:
    _fit(rank, recipe, overrides, whole)
    _meet_at_another_port()
    with _fails_at(4):
        _fit(rank, recipe, overrides, cut)
    _meet_at_another_port()
    resume(cut, console=Console(quiet=True))


def test_a_run_of_two_processes_resumes_bit_equal(tiny, two_processes):
    whole, cut = Path("whole").absolute(), Path("cut").absolute()
    options = (*TWO, "data.batch_size=16", "trainer.max_epochs=3")
    two_processes(_whole_and_cut_short, tiny, options, whole, cut)
    ours, theirs = (torch.load(RunDirectory(path).best, weights_only=True) for path in (cut, whole))
    assert all(torch.equal(value, theirs["averaged"][name]) for name, value in ours["averaged"].items())
    assert len(ours["random_state"]) == 2
    states = [state["own"]["mixing"] for state in ours["random_state"]]
    assert not torch.equal(*states), "each process mixes with draws of its own"


def test_two_processes_run_two_phases(tiny, two_processes):
    Path("first.yaml").write_text(f"extends: {tiny}\ntrainer: {{max_epochs: 1}}\n")
    path = Path("phases").absolute()
    two_processes(_fit, tiny, (*TWO, "run.pretrain=first.yaml", "trainer.max_epochs=1"), path)
    assert {line["phase"] for line in read_metrics(path / "metrics.jsonl")} == {"pretrain", "fit"}


@dataclass(frozen=True)
class AsFewLabelsAsNeeded:
    """A second phase, which takes the fewer labels the more the first one got right."""

    recipe: Recipe

    def known(self) -> list[Phase]:
        return [Phase("first", self.recipe)]

    def next(self, finished: Sequence[FinishedPhase]) -> Phase | None:
        if len(finished) != 1:
            return None if finished else self.known()[0]
        labels = 9 - round(5 * finished[0].figures["val/accuracy"])
        data = replace(self.recipe.data, labels_per_class=labels)
        return Phase("second", replace(self.recipe, data=data), start="first")


def _as_few_as_needed(recipe: Recipe, stored: Mapping[str, Recipe]) -> AsFewLabelsAsNeeded:
    return AsFewLabelsAsNeeded(recipe)


def _plan(rank: int, recipe: str, overrides: tuple[str, ...], whole: Path, cut: Path) -> None:
    options = {"console": Console(quiet=True), "make_plan": _as_few_as_needed}
    asked = load_recipe(recipe, overrides)
    fit(asked, run_dir=whole, command=[], **options)
    _meet_at_another_port()
    with _fails_at(9):  # in the second epoch of the second phase
        fit(asked, run_dir=cut, command=[], **options)
    _meet_at_another_port()
    resume(cut, **options)


def test_two_processes_agree_on_a_phase_that_depends_on_the_one_before(tiny, two_processes):
    whole, cut = Path("whole").absolute(), Path("cut").absolute()
    options = (*TWO, "data.batch_size=16", "trainer.max_epochs=2")
    two_processes(_plan, tiny, options, whole, cut)
    assert [line["phase"] for line in validation(cut)] == ["first", "first", "second", "second"]
    assert [(line["val/loss"], line["step"]) for line in validation(cut)] == [
        (line["val/loss"], line["step"]) for line in validation(whole)
    ]
    recipes = [load_recipe(path / "phases" / "second" / "recipe.yaml").data for path in (whole, cut)]
    assert recipes[0] == recipes[1]
    assert recipes[0].labels_per_class < 10
    ours, theirs = (torch.load(RunDirectory(path).best, weights_only=True)["averaged"] for path in (cut, whole))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
