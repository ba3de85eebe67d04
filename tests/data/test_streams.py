"""Several streams in one training step: labelled and unlabelled digits, in batches of other sizes.

Items are those of the specification of learning from unlabelled images.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from vision_train.data.dataset import ClassLabels
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.images import build as images
from vision_train.data.module import Stream
from vision_train.data.splits import by_split
from vision_train.data.toy.digits import digits_samples
from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.dry_run import dry_run
from vision_train.run.fit import fit, resume
from vision_train.run.leakage import keep_apart
from vision_train.tasks.classification.task import ClassificationTask

QUIET = Console(quiet=True)
CLASSES = [str(digit) for digit in range(10)]
LABELLED, POOL = 60, 100
STEPS = 7
"""Steps of an epoch: 60 labelled images in batches of 8."""
SMALL = (
    *("data.batch_size=8", "data.workers=0", "augment.train.color_jitter=0.3", "optim.warmup_epochs=0"),
    "augment.mixing={maskmix: 0, mixup: 0, cutmix: 0, labels: area}",
    "model.args={embed_dim: 24, depth: 1, num_heads: 2, proj_drop_rate: 0.1}",
    "trainer={max_epochs: 3, accelerator: cpu, log_every_n_steps: 1}",
)
TWO = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=4")


def two_streams(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> ImageDataModule:
    """Digits, most of whose labels are not known."""
    digits = by_split(digits_samples())
    train = digits["train"]
    splits = {
        "train": train[:LABELLED],
        "pool": [replace(sample, truth=None) for sample in train[LABELLED : LABELLED + POOL]],
        "val": digits["val"][:40],
        "test": digits["test"][:30],
    }
    size = recipe.data.batch_size
    streams = {"labelled": Stream("train", size), "unlabelled": Stream("pool", 3 * size)}
    labels = ClassLabels(CLASSES)
    return ImageDataModule(recipe.data, recipe.augment, recipe.seed, splits, CLASSES, labels, streams)


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe("quickstart", [*SMALL, *overrides])


def drawn(data: ImageDataModule, epoch: int) -> list[dict[str, list[str]]]:
    """Ids of each stream in each step of an epoch."""
    loader = data.train_dataloader()
    assert isinstance(loader, CombinedLoader)
    for each in loader.flattened:
        each.batch_sampler.set_epoch(epoch)
    return [{name: part["id"] for name, part in batch.items()} for batch, _, _ in loader]


def ids_in(steps: list[dict[str, list[str]]], stream: str) -> list[str]:
    return [name for step in steps for name in step[stream]]


class TestBatches:
    def test_a_step_has_a_batch_of_each_stream_by_name(self):
        data = two_streams(recipe_of())
        batch, _, _ = next(iter(data.train_dataloader()))
        labelled, unlabelled = batch["labelled"], batch["unlabelled"]
        assert labelled["image"].shape == (8, 3, 16, 16)
        assert labelled["label"].shape == (8,)
        assert unlabelled["image"].shape == (24, 3, 16, 16)
        assert "label" not in unlabelled
        truths = {sample.id: CLASSES.index(sample.truth) for sample in data.samples("train")}
        assert labelled["label"].tolist() == [truths[name] for name in labelled["id"]]
        assert set(unlabelled["id"]) <= {sample.id for sample in data.samples("pool")}

    def test_the_first_stream_decides_how_long_an_epoch_is(self):
        data = two_streams(recipe_of())
        assert data.batches_per_epoch(1) == len(drawn(data, 0)) == STEPS
        assert data.batches_per_epoch(2) == 4, "a fifth of the images would be left out"
        assert data.smallest_batch(2) == 8
        with pytest.raises(UserError, match=r"61 processes for 60 training images; lower trainer\.devices"):
            data.smallest_batch(61)

    def test_a_stream_beside_may_have_one_image_a_batch(self):
        data = two_streams(recipe_of())
        data.streams = {"labelled": Stream("train", 8), "unlabelled": Stream("pool", 1)}
        assert data.smallest_batch(1) == 8, "only labelled images are mixed"

    def test_the_other_stream_goes_on_across_epochs(self):
        data = two_streams(recipe_of())
        steps = [step for epoch in range(3) for step in drawn(data, epoch)]
        ids = ids_in(steps, "unlabelled")
        passes = [ids[start : start + POOL] for start in range(0, len(ids) - POOL + 1, POOL)]
        for each in passes:  # the second one begins in the first epoch and ends in the second; none is left out
            assert len(set(each)) == POOL
        assert len(passes) == 5
        assert all(one != other for one, other in pairwise(passes))
        assert len(set(ids_in(steps[:STEPS], "labelled"))) == STEPS * 8
        assert drawn(two_streams(recipe_of()), 1) == steps[STEPS : 2 * STEPS], "the epoch alone decides"

    def test_streams_of_one_length_are_shuffled_apart(self):
        data = two_streams(recipe_of())
        data.streams = {"one": Stream("train", 8), "other": Stream("train", 8)}
        steps = drawn(data, 0)
        assert ids_in(steps, "one") != ids_in(steps, "other")

    def test_two_processes_share_what_one_draws_with_twice_the_batch(self):
        whole = drawn(two_streams(recipe_of()), 1)
        shares = []
        for rank in range(2):
            half = two_streams(recipe_of("data.batch_size=4"))
            half._rank_and_world_size = lambda rank=rank: (rank, 2)  # type: ignore[method-assign]
            shares.append(drawn(half, 1))
        for step, halves in zip(whole, zip(*shares, strict=True), strict=True):
            for stream in ("labelled", "unlabelled"):
                assert sorted(step[stream]) == sorted(halves[0][stream] + halves[1][stream])


class TestState:
    def test_each_stream_has_its_own(self):
        data = two_streams(recipe_of())
        loader = iter(data.train_dataloader())
        for _ in range(3):
            next(loader)
        assert data.state_dict() == {
            "streams": {name: {"seed": 0, "epoch": 0, "cursor": 3} for name in ("labelled", "unlabelled")}
        }

    @pytest.mark.parametrize("before", [0, 3, STEPS - 1])
    def test_an_epoch_goes_on_where_it_was_left(self, before):
        whole = drawn(two_streams(recipe_of()), 2)
        resumed = two_streams(recipe_of())
        state = {"seed": 0, "epoch": 2, "cursor": before}
        resumed.load_state_dict({"streams": dict.fromkeys(resumed.streams, state)})
        assert drawn(resumed, 2) == whole[before:]
        assert drawn(resumed, 3) == drawn(two_streams(recipe_of()), 3)

    @pytest.mark.parametrize(
        "state",
        [{"seed": 0, "epoch": 1, "cursor": 0}, {"streams": {"train": {"seed": 0, "epoch": 1, "cursor": 0}}}],
        ids=["of an earlier version", "of one stream"],
    )
    def test_of_other_streams_is_refused(self, state):
        with pytest.raises(UserError, match=r"streams .*, and not labelled, unlabelled"):
            two_streams(recipe_of()).load_state_dict(state)


class Both(LightningModule):
    """Learns from labels, and to say the same of an unlabelled image twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 10))
        self.seen: list[dict[str, Any]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.seen.append({name: (part["id"], part["image"].sum().item()) for name, part in batch.items()})
        return loss_of(self.network, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loss_of(network: torch.nn.Module, batch: dict[str, Any]) -> Tensor:
    labelled, unlabelled = batch["labelled"], batch["unlabelled"]
    known = functional.cross_entropy(network(labelled["image"]), labelled["label"])
    once, twice = (network(unlabelled["image"]).softmax(dim=1) for _ in range(2))
    return known + functional.mse_loss(once, twice.detach()) + 0.1 * once.square().mean()


class SaveAt(Callback):
    """Saves a checkpoint in the middle of an epoch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint("middle.ckpt")


@pytest.mark.parametrize("workers", [0, 2])
def test_item_5_training_goes_on_in_the_middle_of_an_epoch_to_the_bit(tmp_path, monkeypatch, workers):
    monkeypatch.chdir(tmp_path)
    recipe = recipe_of(f"data.workers={workers}")

    def train(step: int, checkpoint: str | None = None) -> Both:
        silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(
            accelerator="cpu", max_epochs=3, limit_val_batches=0, enable_model_summary=False,
            use_distributed_sampler=False, callbacks=[SaveAt(step)], **silent,
        )  # fmt: skip
        module = Both()
        trainer.fit(module, datamodule=two_streams(recipe), ckpt_path=checkpoint, weights_only=True)
        return module

    whole = train(STEPS + 4)
    resumed = train(0, "middle.ckpt")
    assert len(whole.seen) == 3 * STEPS
    assert resumed.seen == whole.seen[STEPS + 4 :]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True))


# --- whole runs


class Killed(Exception):
    """Stands for what ends a process."""


@contextmanager
def learning_from_both(record: Path, stop_at: int | None = None) -> Iterator[None]:
    """Let classification train on two streams, note what each step saw, and stop a run before some step."""
    lines: list[dict[str, list[str]]] = []

    def training_step(self: ClassificationTask, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if len(lines) == stop_at:
            raise Killed
        lines.append({name: part["id"] for name, part in batch.items()})
        return loss_of(self.network, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "build", two_streams)
        patch.setattr(ClassificationTask, "training_step", training_step)
        yield
    record.write_text(json.dumps(lines))


def _whole(rank: int, run_dir: Path, overrides: tuple[str, ...]) -> None:
    with learning_from_both(run_dir.with_name(f"{run_dir.name}-{rank}.json")):
        fit(recipe_of(*overrides), run_dir=run_dir, command=[], console=QUIET)


def _cut(rank: int, run_dir: Path, overrides: tuple[str, ...]) -> None:
    """Cut a run short in its second epoch, and go on with it."""
    with (
        learning_from_both(run_dir.with_name(f"before-{rank}.json"), stop_at=STEPS + 3),
        pytest.raises(Killed),
    ):
        fit(recipe_of(*overrides), run_dir=run_dir, command=[], console=QUIET)
    _meet_at_another_port()
    with learning_from_both(run_dir.with_name(f"{run_dir.name}-{rank}.json")):
        resume(run_dir, console=QUIET)


def _whole_and_cut(rank: int, whole: Path, cut: Path, overrides: tuple[str, ...]) -> None:
    _whole(rank, whole, overrides)
    _meet_at_another_port()
    _cut(rank, cut, overrides)


def _meet_at_another_port() -> None:
    """The other process, if there is one, may not have left the one before."""
    if "MASTER_PORT" in os.environ:
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)


def steps_of(run_dir: Path, rank: int = 0) -> list[dict[str, list[str]]]:
    return json.loads(run_dir.with_name(f"{run_dir.name}-{rank}.json").read_text())


def assert_same_end(one: Path, other: Path) -> None:
    """Logs agree but for the clock, and weights to the bit."""
    timed = ("time", "train/samples_per_second", "train/data_wait")
    logs = (read_metrics(path / "metrics.jsonl") for path in (one, other))
    ours, theirs = ([{key: line[key] for key in line if key not in timed} for line in log] for log in logs)
    assert ours == theirs
    ours, theirs = (torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (one, other))
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    assert ours["ImageDataModule"] == theirs["ImageDataModule"]
    end = {"seed": 0, "epoch": 2, "cursor": STEPS}
    assert ours["ImageDataModule"] == {"streams": {"labelled": end, "unlabelled": end}}


@pytest.fixture(scope="module")
def one_process(tmp_path_factory) -> Path:
    """A run on two streams in one process; it is only read."""
    run_dir = tmp_path_factory.mktemp("streams") / "whole"
    _whole(0, run_dir, ())
    return run_dir


class TestRuns:
    def test_learn_from_both_and_count_both(self, one_process):
        steps = steps_of(one_process)
        assert len(steps) == 3 * STEPS
        assert {(len(step["labelled"]), len(step["unlabelled"])) for step in steps} == {(8, 24)}
        assert steps[STEPS : 2 * STEPS] == drawn(two_streams(recipe_of()), 1)
        summary = json.loads((one_process / "summary.json").read_text())
        assert summary["train/samples"] == 3 * STEPS * 32
        assert summary["train/steps"] == 3 * STEPS
        table = json.loads((one_process / "artefacts" / "test_summary.json").read_text())
        assert dict(table["rows"])["images"] == 30, "nothing of a stream is tested"

    def test_resume_to_the_bit(self, one_process, tmp_path):
        cut = tmp_path / "cut"
        _cut(0, cut, ())
        assert steps_of(cut) == steps_of(one_process)[STEPS:]
        assert_same_end(cut, one_process)

    @pytest.mark.slow
    def test_resume_to_the_bit_in_two_processes(self, one_process, two_processes, tmp_path):
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        two_processes(_whole_and_cut, whole, cut, TWO)
        for rank in range(2):
            assert steps_of(cut, rank) == steps_of(whole, rank)[STEPS:]
        assert_same_end(cut, whole)
        for step, *halves in zip(steps_of(one_process), steps_of(whole, 0), steps_of(whole, 1), strict=True):
            for stream in ("labelled", "unlabelled"):
                assert sorted(step[stream]) == sorted(halves[0][stream] + halves[1][stream])


class TestDryRun:
    def test_counts_no_unlabelled_stream_as_evaluated(self, tmp_path, monkeypatch):
        data = two_streams(recipe_of())
        assert data.evaluation_batches("val", 1) == 5
        assert data.evaluation_batches("val", 2) == 3
        evaluated: list[str] = []
        score = ClassificationTask.score

        def watched(self: ClassificationTask, batch: dict[str, Any], loader: int = 0) -> Any:
            evaluated.extend(batch["id"])
            return score(self, batch, loader)

        monkeypatch.setattr(ClassificationTask, "score", watched)
        with learning_from_both(tmp_path / "dry.json"):
            text = dry_run(recipe_of())
        assert evaluated == [sample.id for sample in data.samples("val")[:16]]
        lines = dict(line.split("  ", 1) for line in text.splitlines() if "  " in line)
        said = {key.strip(): value.strip() for key, value in lines.items()}
        assert said["images"] == "60 train, 100 pool, 40 val, 30 test"
        assert said["steps"].startswith("7 an epoch, 21 in all")
        assert said["batch"].startswith("32 images a step: 8 labelled + 24 unlabelled")


def test_a_stream_learns_from_nothing_that_a_later_phase_is_measured_on():
    earlier, later = two_streams(recipe_of()), two_streams(recipe_of())
    digits = by_split(digits_samples())
    earlier._samples["pool"] = [*earlier.samples("pool"), *digits["val"][:3], *digits["test"][:2]]
    keep_apart(earlier, later)
    assert len(earlier.samples("pool")) == POOL
    assert len(earlier.left_out) == 5


def test_samples_with_and_without_truth_need_streams_of_their_own():
    data = two_streams(recipe_of())
    mixed = [*data.samples("train")[:2], *data.samples("pool")[:1]]
    with pytest.raises(ValueError, match=r"2 of 3 samples have a truth; .*stream"):
        data.make_dataset(mixed, stream="labelled", alone=True)
