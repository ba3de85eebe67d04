import math

import pytest
import torch
from torch import nn

from vision_train.optim import build_optimizer, build_schedule, count_warmup_steps, schedule
from vision_train.recipe.optim_section import Optim


def test_warm_up_is_linear_and_ends_at_the_peak():
    options = Optim(lr=1e-2, warmup_lr=1e-3, warmup_epochs=1)
    rates = [options.lr * schedule(step, options=options, total_steps=100, warmup_steps=10) for step in range(11)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[5] == pytest.approx(5.5e-3)
    assert rates[10] == pytest.approx(1e-2)


def test_cosine_reaches_half_way_and_the_floor():
    options = Optim(lr=1e-2, min_lr=2e-3)
    at = {
        step: options.lr * schedule(step, options=options, total_steps=100, warmup_steps=0)
        for step in (0, 50, 100, 500)
    }
    assert at[0] == pytest.approx(1e-2)
    assert at[50] == pytest.approx(6e-3)
    assert at[100] == at[500] == pytest.approx(2e-3)
    quarter = schedule(25, options=options, total_steps=100, warmup_steps=0)
    assert quarter == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)


def test_warmup_stable_decay_stays_and_falls_over_the_last_share():
    options = Optim(lr=1e-2, schedule="warmup_stable_decay", decay_share=0.4, min_lr=1e-3)
    at = {
        step: options.lr * schedule(step, options=options, total_steps=100, warmup_steps=10)
        for step in (0, 5, 10, 60, 80, 100, 120)
    }
    assert at == pytest.approx({0: 0, 5: 5e-3, 10: 1e-2, 60: 1e-2, 80: 5.5e-3, 100: 1e-3, 120: 1e-3})


def test_a_long_warm_up_leaves_fewer_steps_to_fall_over_and_no_jump():
    options = Optim(lr=1.0, schedule="warmup_stable_decay", decay_share=0.5)
    at = [schedule(step, options=options, total_steps=100, warmup_steps=80) for step in (79, 80, 90, 100)]
    assert at == pytest.approx([79 / 80, 1, 0.5, 0])


def test_constant_schedule_stays():
    options = Optim(lr=1e-2, schedule="constant")
    assert schedule(77, options=options, total_steps=100, warmup_steps=5) == 1.0


def test_step_schedule_drops_at_its_epochs():
    options, layer = Optim(lr=1e-2, schedule="step", milestones=[2, 3.5], gamma=0.1), nn.Linear(1, 1)
    optimizer = build_optimizer(layer, options, effective_batch=1)
    found, steps = [], build_schedule(optimizer, options, total_steps=40, steps_per_epoch=10)
    for _ in range(40):
        found.append(steps.get_last_lr()[0])
        optimizer.step()
        steps.step()
    assert found == pytest.approx([1e-2] * 20 + [1e-3] * 15 + [1e-4] * 5)


def test_warm_up_of_the_step_schedule_counts_in_steps():
    options = Optim(lr=1e-2, schedule="step", milestones=[1], warmup_steps=4)
    assert count_warmup_steps(options, steps_per_epoch=10) == 4
    assert count_warmup_steps(Optim(warmup_epochs=0.5), steps_per_epoch=10) == 5
    at = [schedule(step, options=options, total_steps=20, warmup_steps=4, milestones=[10]) for step in (0, 1, 4, 10)]
    assert at == pytest.approx([0.0, 0.25, 1.0, 0.1])


def test_the_first_step_has_the_full_rate_however_early_a_milestone_of_a_short_phase_is():
    options = Optim(lr=1e-2, schedule="step", milestones=[0.1])
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=options.lr)
    factor = build_schedule(optimizer, options, total_steps=6, steps_per_epoch=3).lr_lambdas[0]
    assert [factor(step) for step in range(3)] == pytest.approx([1, 0.1, 0.1])
