"""What the meter counts and what it leaves out."""

from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from vision_train.metrics_log import read_metrics
from vision_train.recipe import load_recipe
from vision_train.run import meter as module
from vision_train.run.fit import fit
from vision_train.run.meter import Meter


def first_loss(recipe: str, *overrides: str) -> float:
    options = ("trainer.max_epochs=1", *overrides)
    directory = fit(load_recipe(recipe, options), run_dir=None, command=[], console=Console(quiet=True))
    return read_metrics(directory.metrics)[0]["train/loss"]


def test_the_loss_is_that_of_a_batch_however_many_share_a_step(tiny):
    assert first_loss(tiny, "trainer.accumulate_grad_batches=3") == pytest.approx(first_loss(tiny), rel=1e-6)


def test_validation_within_an_epoch_is_not_time_spent_waiting_for_data(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)
    trainer = SimpleNamespace(
        accumulate_grad_batches=1, world_size=1, is_last_batch=False, should_stop=False, sanity_checking=False
    )
    meter = Meter("fit", None, "stop")
    meter._every = 10
    meter.on_train_epoch_start(trainer, None)
    for wait in (1.0, 2.0):
        clock.now += wait
        meter.on_train_batch_start(trainer, None, {}, 0)
        clock.now += 4.0
        meter.on_train_batch_end(trainer, None, {"loss": torch.tensor(1.0)}, {"id": ["a"]}, 0)
        clock.now += 100.0  # validation
        meter.on_validation_end(trainer, None)
    assert (meter._wait, meter._seconds) == (3.0, 11.0)


def test_steps_after_the_last_line_count_though_another_callback_ended_training():
    """Lightning's timer, for trainer.max_time, is called after the meter."""
    group = {"lr": 0.1}
    trainer = SimpleNamespace(
        accumulate_grad_batches=1, world_size=1, is_last_batch=False, should_stop=False, current_epoch=0, global_step=1,
        callback_metrics={}, optimizers=[SimpleNamespace(param_groups=[group])],
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
    )  # fmt: skip
    meter = Meter("fit", None, "stop")
    meter._every = 10
    meter.on_train_batch_end(trainer, None, {"loss": torch.tensor(1.0)}, {"id": ["a"]}, 0)
    assert meter.total_samples == 0
    meter.on_train_epoch_end(trainer, None)
    assert (meter.total_samples, meter.latest["train/loss"]) == (1, 1.0)
