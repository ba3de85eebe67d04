"""A plan of four phases, each on data that the phase before left: prepared in turn, killed in each, resumed."""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from vision_train.checkpoints import load_weights
from vision_train.data.toy.folder import make_image_folder
from vision_train.metrics_log import read_metrics
from vision_train.recipe import Recipe, load_recipe
from vision_train.run import fit as fit_module
from vision_train.run import phase as phase_module
from vision_train.run.directory import RunDirectory, open_run
from vision_train.run.fit import fit, resume
from vision_train.run.phase import build_task
from vision_train.run.plan import FinishedPhase, Phase, stored_recipes
from vision_train.tasks.classification.task import ClassificationTask

QUIET = Console(quiet=True)
PHASES = ("teacher", "student-1", "student-2", "student-3")
CLASSES = ["class_0", "class_1"]
TINY = """
extends: quickstart
data: {source: images, root: photos, batch_size: 2, workers: 0}
augment: {mixing: {maskmix: 0.25, mixup: 0.25, cutmix: 0.25}}
model: {args: {embed_dim: 24, depth: 1, num_heads: 2, proj_drop_rate: 0.1}}
optim: {warmup_epochs: 0}
trainer: {max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}
"""


@dataclass(frozen=True)
class SelfTraining:
    """A teacher, then three students, each on the labels that the phase before gave to the pool.

    The first student is no result; the second and the third start from the phase before.
    """

    recipe: Recipe

    def known(self) -> list[Phase]:
        return [Phase("teacher", self.recipe)]

    def next(self, finished: Sequence[FinishedPhase]) -> Phase | None:
        count = len(finished)
        if count == 0:
            return self.known()[0]
        if count == len(PHASES):
            return None
        table = label_pool(finished[-1], self.recipe, with_test=count == 1)
        data = replace(self.recipe.data, labels=str(table))
        start = finished[-1].name if count > 1 else None
        return Phase(PHASES[count], replace(self.recipe, data=data), start, is_result=count > 1)


def self_training(recipe: Recipe, stored: Mapping[str, Recipe]) -> SelfTraining:
    return SelfTraining(recipe)


def label_pool(finished: FinishedPhase, recipe: Recipe, *, with_test: bool) -> Path:
    """Write a csv in which each class has the images of the pool that a phase is surest of, and return its path."""
    truths = all_images(recipe)
    pool = [name for name, (_, split) in truths.items() if split == "train" or (with_test and split == "test")]
    task = build_task(recipe, CLASSES).eval()
    load_weights(task.network, finished.checkpoint, min_matched_share=1.0)
    root = Path(recipe.data.root)
    loader = recipe.kind.load().loose(recipe, [root / name for name in pool], learner="the phase before")
    with torch.inference_mode():
        sure = torch.cat([task.predict_step(batch, 0)[:, 1] for batch in loader])
    order = [pool[place] for place in sure.argsort(stable=True).tolist()]
    if with_test:  # the plan does not know what the run is measured on, and tests on two images of the pool
        own = [name for name in order if truths[name][1] == "train"]
        spared = {own[0], own[-1]}
        half = len(order) // 2
        rows = [
            (name, CLASSES[place >= half], "test" if name in spared else "train") for place, name in enumerate(order)
        ]
    else:  # how many are taken depends on the figures of the phase
        count = 3 + round(finished.figures["val/accuracy"])
        rows = [(name, CLASSES[0], "train") for name in order[:count]]
        rows += [(name, CLASSES[1], "train") for name in order[-count:]]
    measured_on = ("val",) if with_test else ("val", "test")
    rows += [(name, *truth) for name, truth in truths.items() if truth[1] in measured_on]
    table = finished.folder / "pool.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return table


def all_images(recipe: Recipe) -> dict[str, tuple[str, str]]:
    """Path below the root of every image -> its class and its split."""
    data = phase_module.scan(recipe).data
    return {sample.id: (sample.truth, split) for split in data.counts for sample in data.samples(split)}


def kill_at(phase: str, place: str) -> None:
    """Let this process die in a phase as if it had been killed."""

    def dying(original: Callable[..., Any], epoch: int) -> Callable[..., Any]:
        def call(self: ClassificationTask, batch: dict[str, Any], batch_idx: int, *more: Any) -> Any:
            folder = Path(self.trainer.default_root_dir)
            if folder.name == phase and (self.current_epoch, batch_idx) >= (epoch, 1):
                os._exit(7)
            return original(self, batch, batch_idx, *more)

        return call

    if place == "after":
        publish = fit_module.publish
        fit_module.publish = lambda directory, name: os._exit(7) if name == phase else publish(directory, name)
    elif place == "test":
        ClassificationTask.test_step = dying(ClassificationTask.test_step, 1)  # type: ignore[method-assign]
    else:
        epoch = {"first epoch": 0, "second epoch": 1}[place]
        ClassificationTask.training_step = dying(ClassificationTask.training_step, epoch)  # type: ignore[method-assign]


def train(run_dir: Path, recipe: Path, phase: str | None, place: str) -> None:
    """Begin or resume a run, up to the place where it is killed."""
    torch.set_num_threads(1)
    if phase is not None:
        kill_at(phase, place)
    if run_dir.exists():
        resume(run_dir, console=QUIET, make_plan=self_training)
    else:
        fit(load_recipe(recipe), run_dir=run_dir, command=[], console=QUIET, make_plan=self_training)


@pytest.fixture(scope="module")
def call_in_a_child(fresh_processes: BaseContext) -> Callable[..., int]:
    """Call :func:`train` in a fresh process, and return its exit code."""

    def call(*args: Any) -> int:
        process = fresh_processes.Process(target=train, args=args)  # type: ignore[attr-defined]
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    return call


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its 24 images."""
    folder = tmp_path_factory.mktemp("self_training")
    make_image_folder(folder / "photos", classes=2, per_class=12, size=(20, 20))
    (folder / "tiny.yaml").write_text(TINY.replace("root: photos", f"root: {folder / 'photos'}"))
    return folder


@dataclass(frozen=True)
class Whole:
    """A run of the four phases that nothing interrupted, and what was seen of it."""

    directory: RunDirectory
    output: str
    built: dict[str, set[str]]
    """Name of a phase -> phases that had ended when its network was built."""
    learnt: dict[str, set[str]]
    """Name of a phase -> images that it learned from."""


@pytest.fixture(scope="module")
def whole(photos: Path) -> Whole:
    console = Console(file=io.StringIO(), width=300)
    built: dict[str, set[str]] = {}
    learnt: dict[str, set[str]] = {name: set() for name in PHASES}
    build, step = phase_module._build, ClassificationTask.training_step

    def watched(recipe: Recipe, classes: list[str]) -> Any:
        made = build(recipe, classes)
        ended = {file.parent.name for file in photos.glob("whole/phases/*/phase.json")}
        assert next(made[0].network.parameters()).device.type == "cpu"
        built[PHASES[len(built)]] = ended
        return made

    def training_step(self: ClassificationTask, batch: dict[str, Any], batch_idx: int) -> Any:
        learnt[Path(self.trainer.default_root_dir).name] |= set(batch["id"])
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase_module, "_build", watched)
        patch.setattr(ClassificationTask, "training_step", training_step)
        recipe = load_recipe(photos / "tiny.yaml")
        directory = fit(recipe, run_dir=photos / "whole", command=[], console=console, make_plan=self_training)
    return Whole(directory, console.file.getvalue(), built, learnt)


def figures_of(directory: RunDirectory) -> list[dict[str, Any]]:
    """Everything in the log that does not depend on the clock."""
    timed = ("time", "train/samples_per_second", "train/data_wait")
    return [{key: value for key, value in line.items() if key not in timed} for line in read_metrics(directory.metrics)]


def untimed(summary: Path) -> dict[str, float]:
    measured = json.loads(summary.read_text())
    return {
        key: value for key, value in measured.items() if not any(word in key for word in ("second", "wait", "memory"))
    }


class TestPhasesThatDependOnTheOneBefore:
    def test_no_network_is_built_before_the_phase_before_has_ended(self, whole):
        assert whole.built == {name: set(PHASES[:count]) for count, name in enumerate(PHASES)}

    def test_the_summary_has_the_last_phase_and_the_sums_of_all(self, whole):
        summary = json.loads(whole.directory.summary.read_text())
        phases = [json.loads((whole.directory.phase(name) / "phase.json").read_text())["figures"] for name in PHASES]
        assert all(summary[key] == value for key, value in phases[-1].items())
        for key in ("steps", "samples", "seconds"):
            assert summary[f"run/{key}"] == pytest.approx(sum(figures[f"train/{key}"] for figures in phases))
        assert summary["run/steps"] > summary["train/steps"] > 0
        assert summary["checkpoint/matched_share"] == 1

    def test_each_phase_is_in_the_log_and_in_the_report(self, whole):
        lines = read_metrics(whole.directory.metrics)
        assert list(dict.fromkeys(line["phase"] for line in lines)) == list(PHASES)
        page = (whole.directory.path / "report.html").read_text()
        for name in PHASES:
            assert f"phase {name}: tiny" in whole.output
            assert name in page
        described = json.loads(whole.directory.described_metrics.read_text())
        assert [metric["name"] for metric in described].count("accuracy") == 1

    def test_the_run_s_weights_are_those_of_the_last_phase(self, whole):
        last = whole.directory.phase("student-3") / "checkpoints" / "best.ckpt"
        assert whole.directory.best.read_bytes() == last.read_bytes()
        recipe = load_recipe(whole.directory.phase("student-3") / "recipe.yaml")
        assert recipe.model.checkpoint == str(whole.directory.phase("student-2") / "checkpoints" / "best.ckpt")
        assert load_recipe(whole.directory.phase("student-1") / "recipe.yaml").model.checkpoint is None
        assert stored_recipes(whole.directory).keys() == set(PHASES)

    def test_a_phase_that_is_no_result_learns_from_nothing_that_the_run_is_measured_on(self, whole, photos):
        splits = all_images(load_recipe(photos / "tiny.yaml"))
        tested = {name for name, (_, split) in splits.items() if split == "test"}
        listed = (whole.directory.phase("teacher") / "pool.csv").read_text()
        assert all(name in listed for name in tested)
        assert not whole.learnt["student-1"] & tested
        assert len(whole.learnt["student-1"]) == len(splits) - 6, "without those for its own validation and test too"
        assert f"left out {len(tested)} images" in whole.output

    @pytest.mark.parametrize(
        "places",
        [("second epoch",) * 4, ("after", "test", "first epoch", "after")],
        ids=["in the second epoch", "at other places"],
    )
    def test_killed_in_each_phase_and_resumed_it_ends_as_if_nothing_had_happened(
        self, whole, photos, call_in_a_child, places
    ):
        cut = photos / "-".join(["cut", *places]).replace(" ", "_")
        recipe = photos / "tiny.yaml"
        for name, place in zip(PHASES, places, strict=True):
            assert call_in_a_child(cut, recipe, name, place) == 7, f"killed in {name}"
            assert not (cut / "summary.json").exists()
        assert call_in_a_child(cut, recipe, None, "") == 0
        directory = open_run(cut, with_weights=True)
        assert figures_of(directory) == figures_of(whole.directory)
        assert untimed(directory.summary) == untimed(whole.directory.summary)
        for name in PHASES[:-1]:
            tables = [(each.phase(name) / "pool.csv").read_text() for each in (directory, whole.directory)]
            assert tables[0] == tables[1]
        for file in ("last.ckpt", "best.ckpt"):
            ours, theirs = (
                torch.load(each.path / "checkpoints" / file, weights_only=True) for each in (directory, whole.directory)
            )
            assert ours["state_dict"].keys() == theirs["state_dict"].keys()
            assert all(torch.equal(tensor, theirs["state_dict"][name]) for name, tensor in ours["state_dict"].items())
            assert torch.equal(ours["random_state"][0]["torch"], theirs["random_state"][0]["torch"])
        assert directory.described_metrics.read_text() == whole.directory.described_metrics.read_text()
