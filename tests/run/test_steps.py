"""How long a training is, and what is said of it before it begins."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vision_train.errors import UserError
from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run.dry_run import dry_run
from vision_train.run.fit import fit, resume
from vision_train.run.phase import scan
from vision_train.run.steps import TrainingSteps, concerns, count_steps, going_on
from vision_train.run.trainer import build_trainer
from vision_train.tasks.classification.task import ClassificationTask

QUIET = Console(quiet=True)
LONG = ("trainer.max_epochs=500", "optim.warmup_epochs=5")
"""Nothing to be concerned about: 1,500 steps."""


def counted(recipe: str, *overrides: str) -> tuple[TrainingSteps, list[str]]:
    loaded = load_recipe(recipe, overrides)
    data, trainer = scan(loaded).data, build_trainer(loaded, [])
    steps = count_steps(loaded, data, trainer)
    return steps, list(concerns(loaded, data, trainer, steps))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {"batches": 3, "held": 1, "per_epoch": 3, "epochs": 4, "total": 12, "effective_batch": 32}),
        (["trainer.accumulate_grad_batches=2"], {"held": 2, "last_held": 1, "per_epoch": 2, "effective_batch": 64}),
        (["trainer.accumulate_grad_batches=8"], {"held": 3, "last_held": 3, "per_epoch": 1, "effective_batch": 96}),
        (["data.batch_size=64"], {"batches": 2, "effective_batch": 64}),
        (["data.batch_size=400"], {"batches": 1, "effective_batch": 100}),
        (["trainer.max_steps=5"], {"epochs": 2, "last_batches": 2, "total": 5}),
        (["trainer.max_steps=50", "trainer.max_epochs=null"], {"epochs": 17, "last_batches": 2, "total": 50}),
        (["trainer.max_steps=50", "trainer.max_epochs=-1"], {"epochs": 17, "total": 50}),
        (["trainer.max_steps=50"], {"epochs": 4, "last_batches": 3, "total": 12}),
        (["trainer.limit_train_batches=2"], {"batches": 2, "per_epoch": 2, "total": 8}),
    ],
)
def test_steps_are_counted(tiny, overrides, expected):
    steps, _ = counted(tiny, *overrides)
    assert {key: getattr(steps, key) for key in expected} == expected


@pytest.mark.parametrize(("ratio", "often"), [(1, None), (50, "2"), (1e6, "51,323")])
def test_a_step_that_takes_each_unlabelled_image_several_times_is_told(ratio, often):
    _, said = counted("semi/digits", f"semi.ratio={ratio}")
    told = [text for text in said if "semi.ratio" in text]
    assert len(told) == (often is not None)
    assert often is None or f"comes {often} times" in told[0]


@pytest.mark.parametrize(
    ("overrides", "done", "expected"),
    [
        (["trainer.max_steps=9"], (2, 6), (9, 3)),  # whole epochs
        (["trainer.max_steps=9"], (2, 5), (9, 4)),  # a limit of 5 steps had ended the second of three
        (["trainer.max_steps=5"], (2, 5), (5, 2)),
        (["trainer.max_epochs=3", "trainer.max_steps=9"], (2, 5), (8, 3)),
        (["trainer.max_epochs=3"], (2, 5), (8, 3)),  # trainer.max_time had ended it
    ],
)
def test_an_epoch_that_was_cut_short_is_made_up_for(tiny, overrides, done, expected):
    recipe = load_recipe(tiny, ["trainer.max_epochs=9", *overrides])
    data, trainer = scan(recipe).data, build_trainer(recipe, [])
    steps = going_on(count_steps(recipe, data, trainer), recipe, *done)
    assert (steps.total, steps.epochs) == expected


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["trainer.max_epochs=4"], ["12 optimiser steps", "trainer.max_epochs (100 make 300 steps)"]),
        (["trainer.max_epochs=null", "trainer.max_steps=40"], ["40 optimiser steps", "Raise trainer.max_steps"]),
        (["optim.warmup_epochs=600"], ["warm-up takes 1,800 steps and training 1,500", "optim.warmup_epochs"]),
        (["optim.warmup_epochs=0", "optim.warmup_steps=9999"], ["optim.warmup_steps"]),
        (["optim.lr_reference_batch=1024"], ["optim.lr=0.002 becomes 6.25e-05", "optim.lr_reference_batch=null"]),
        (["trainer.max_steps=2000"], ["trainer.max_epochs=null", "trainer.max_steps=2000"]),
        (["trainer.check_val_every_n_epoch=501"], ["trainer.check_val_every_n_epoch=501", "after the last one"]),
        (["trainer.check_val_every_n_epoch=300"], ["the last 200 epoch(s) are not validated"]),
        (["trainer.limit_train_batches=1", "trainer.max_epochs=1"], ["68 of the 100 training images are never seen"]),
        (["trainer.max_epochs=null", "trainer.max_steps=1"], ["are never seen; raise trainer.max_steps"]),
    ],
)
def test_a_plan_that_is_hardly_meant_so_is_pointed_out_with_the_key_that_helps(tiny, overrides, keys):
    _, said = counted(tiny, *LONG, *overrides)
    assert all(any(key in text for text in said) for key in keys), said


def test_nothing_is_said_of_a_good_plan(tiny):
    assert counted(tiny, *LONG)[1] == []


@pytest.mark.parametrize(("batches", "named"), [(1, False), (2, True)])
def test_accumulation_is_a_remedy_only_where_there_is_some(tiny, batches, named):
    _, said = counted(tiny, "trainer.max_epochs=1", f"trainer.accumulate_grad_batches={batches}")
    (few,) = (text for text in said if "are few" in text)
    assert ("trainer.accumulate_grad_batches" in few) is named


def test_both_fit_and_dry_run_say_it(tiny):
    console = Console(file=io.StringIO(), width=300)
    fit(load_recipe(tiny, ["trainer.max_epochs=1"]), run_dir=Path("run"), command=[], console=console)
    for text in (console.file.getvalue(), Path("run/log.txt").read_text(), dry_run(load_recipe(tiny))):
        assert "optimiser steps in all are few" in text
    assert "steps: 3 an epoch, 3 in all; 32 images a step" in console.file.getvalue()


def test_fewer_epochs_than_the_interval_of_validation_are_validated_all_the_same(tiny):
    directory = fit(
        load_recipe(tiny, ["trainer.check_val_every_n_epoch=10", "trainer.max_epochs=2"]),
        run_dir=None, command=[], console=QUIET,
    )  # fmt: skip
    assert [line["epoch"] for line in read_metrics(directory.metrics) if "val/loss" in line] == [1]


STEPS = ("trainer.max_epochs=null", "trainer.max_steps=7", "trainer.check_val_every_n_epoch=2")


def test_steps_are_an_alternative_to_epochs_and_the_last_is_validated(tiny):
    # No line is due by its number after the last step.
    directory = fit(load_recipe(tiny, [*STEPS, "trainer.log_every_n_steps=2"]), run_dir=None, command=[], console=QUIET)
    lines = read_metrics(directory.metrics)
    assert [line["step"] for line in lines if "val/loss" in line] == [6, 7]
    summary = json.loads(directory.summary.read_text())
    assert summary["train/steps"] == 7
    assert summary["train/samples"] == 7 * 32
    assert [line["lr"] for line in lines if "lr" in line][-1] < 1e-3, "the schedule ends with the last step"


def test_a_loss_that_is_not_finite_is_found_in_the_last_steps_too(tiny, monkeypatch):
    original = ClassificationTask.training_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return original(self, batch, batch_idx) * (float("nan") if self.trainer.global_step == 3 else 1)

    monkeypatch.setattr(ClassificationTask, "training_step", training_step)
    overrides = ["trainer.max_epochs=null", "trainer.max_steps=4", "trainer.log_every_n_steps=9"]
    with pytest.raises(UserError, match=r"no longer finite.*run\.on_nan"):
        fit(load_recipe(tiny, overrides), run_dir=None, command=[], console=QUIET)


def test_more_steps_are_taken_though_the_limit_had_ended_the_run_within_an_epoch(tiny):
    by_steps = ["trainer.max_epochs=null", "trainer.max_steps=5"]
    directory = fit(load_recipe(tiny, by_steps), run_dir=Path("run"), command=[], console=QUIET)
    directory.summary.unlink()
    (directory.phase("fit") / "phase.json").unlink()
    directory.recipe.write_text(directory.recipe.read_text().replace("max_steps: 5", "max_steps: 7"))
    resume(Path("run"), console=QUIET, accept=["trainer.max_steps"])
    assert json.loads(directory.summary.read_text())["train/steps"] == 7


def test_a_run_by_steps_resumes_to_the_bit(tiny, monkeypatch):
    whole = fit(load_recipe(tiny, STEPS), run_dir=Path("whole"), command=[], console=QUIET)
    original, calls = ClassificationTask.training_step, iter(range(100))

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", training_step)
        with pytest.raises(KeyboardInterrupt):
            fit(load_recipe(tiny, STEPS), run_dir=Path("cut"), command=[], console=QUIET)
    resumed = resume(Path("cut"), console=QUIET)
    ours, theirs = (
        [(line["step"], line["val/loss"]) for line in read_metrics(run.metrics) if "val/loss" in line]
        for run in (resumed, whole)
    )
    assert ours == theirs
    assert len(ours) == 2
